"""Everything that needs torch, torchaudio or librosa; the runtime never imports it.

model: network, checkpoints, export; data: recordings, splits; augment: examples and what distorts
them; fit: the training loop; phones, detection, speech_commands: what is trained; evaluate and
report: how good it is. Each room imports only those before it.
"""
