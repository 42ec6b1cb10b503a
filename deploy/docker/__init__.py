"""What the containers of docker-compose.yml need beside the programs: their images, settings, first start, health."""
