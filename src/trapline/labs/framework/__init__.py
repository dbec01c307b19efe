"""What every lab is made of: its declaration, its charts, and how both are shown."""
