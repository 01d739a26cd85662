"""What `verify` found, as text, as JSON and as a page."""
