"""Small models that learn titles and answers before they are fine-tuned: on generated catalogs, or on one of yours."""
