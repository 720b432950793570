"""What the bot believes against what the venue says, and what follows from it."""
