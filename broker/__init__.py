"""Where Sottovoce's programs meet: the contract, the link to a broker, and the broker's configuration.

- `broker.contract`: what every program must agree on (topics, messages, features, decision, bundle).
- `broker.link`: one MQTT 5 session that survives outages.
- `broker.local`: a broker on loopback for the demo and the tests.
- `broker/mosquitto/`: the configuration of a production broker.
"""
