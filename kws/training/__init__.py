"""The training wing: everything that needs torch, torchaudio or librosa. The runtime never imports it.

Read in this order: `pooling`, `network` (the model), `clips`, `mixing`, `augment` (the data), `loss`, `fit` (the loop),
`calibrate`, `export` (the model file).
"""
