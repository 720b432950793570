"""Binance USDⓈ-M futures on the wire: REST, market streams and the user data stream."""
