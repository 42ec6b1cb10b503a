"""A fleet of virtual nodes, a broker and a rollout on one machine: to size a broker, and to rehearse a release."""
