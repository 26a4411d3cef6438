"""What is done beside a training, one concern per file."""
