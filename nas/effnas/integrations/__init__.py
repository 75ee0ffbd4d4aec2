"""effnas within other programs: their loops with its controllers, its runs in their pages."""
