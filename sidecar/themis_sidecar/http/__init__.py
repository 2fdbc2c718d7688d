"""The second port: metrics, health and the status page for whoever runs the server."""
