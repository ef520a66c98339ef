"""What happened in calls: noted while they are up, kept, sent and shown afterwards, never in the way of the audio."""
