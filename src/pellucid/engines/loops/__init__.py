"""The loop-nest IR shared by every code generator: its data, its text, its schedules."""
