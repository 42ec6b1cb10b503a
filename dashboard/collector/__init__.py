"""MQTT to a store: every event exactly once, acknowledged only when it is durable here."""
