"""What starts the programs: the demo, images, certificates, service files."""
