"""Training and evaluation: everything that needs torch, torchaudio or librosa. The runtime never
imports it.

    model             the network, checkpoints, export
    data              recordings: clips, splits, keyword data, downloads
    augment           mixing, rooms, microphones, noise
    fit               training settings, the loop, hard negatives
    detection         detectors: objective, training, calibration
    phones            phone recognition, which pre-trains encoder and verifier
    speech_commands   classifiers, by the protocols of Speech Commands
    evaluate          test streams, scoring, metrics, calibration
    report            evaluations as text and as a page
    distributed       several processes that train one network
"""
