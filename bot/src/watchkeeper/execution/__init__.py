"""From intents to orders, and from fills to stops."""
