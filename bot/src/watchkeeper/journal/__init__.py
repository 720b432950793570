"""The durable memory of one bot: intents, orders, fills, positions, decisions."""
