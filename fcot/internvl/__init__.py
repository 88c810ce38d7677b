"""InternVL's conventions: tiling, prompts, visual tokens and checkpoint folders."""
