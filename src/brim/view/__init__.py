"""A model's structure as a page: its document here, the drawing in the browser."""
