"""From a question to trials: search spaces, Ray Tune, and the jobs' command line."""
