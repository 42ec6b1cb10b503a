"""What happens to messages after the broker: collected, stored, shown."""
