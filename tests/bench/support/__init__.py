"""What the benches share; nothing here is a bench of its own."""
