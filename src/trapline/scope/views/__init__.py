"""Views: address spaces and tasks as data, and what they look like in 80 columns and in notebooks."""
