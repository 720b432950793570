"""Who may increase exposure on an account."""
