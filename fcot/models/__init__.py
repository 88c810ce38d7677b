"""Teacher and students: the models, and how they read and answer."""
