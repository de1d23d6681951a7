"""What is trained. A method says how a batch is scored by a loss, and how a trained model localizes."""
