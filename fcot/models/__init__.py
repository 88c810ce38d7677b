"""Teacher and students: the models, and how they read pages and generate answers."""
