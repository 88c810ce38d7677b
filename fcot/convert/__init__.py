"""Model folders in InternVL2's original layout: to transformers' native one and back."""
