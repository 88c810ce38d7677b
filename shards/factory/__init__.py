"""The factory of post-training data: answers that are kept only where rules verify them."""
