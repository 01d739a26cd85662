"""The measured speeds as text, as Markdown and as a picture."""
