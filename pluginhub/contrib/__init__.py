"""What some projects want and none need."""
