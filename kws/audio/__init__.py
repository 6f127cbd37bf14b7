"""Audio: recordings, formats, folders, the microphone; float32 mono samples at 16 kHz."""
