"""What tests share: zones, scripted resolvers, servers on loopback."""
