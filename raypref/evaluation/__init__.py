"""What a trained model is worth: ranking, decoding, metrics, one row a user."""
