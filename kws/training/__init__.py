"""The training wing: everything that needs torch, torchaudio or librosa. The runtime never
imports it.

Read in this order: `layers`, `pooling`, `norm`, `depthwise`, `past`, `bands`, `network` (the
model; `cost` counts it); `clips`, `material`, `mixing`, `augment` (the data); `loss`, `fit`,
`processes`, `memory`, `checkpoint`, `made` (the loop); `export`, `torch_engine` (the model file,
and torch in its stead); `init_from` (`--init-from`; `utterances` and `reading` tell how the one that
comes with kws learned), `session`, `mining`, `rounds` (`--hard-negatives-from`), `spelling` (`--from-text`);
`command` (`kws train`).

Thresholds: `trials`, `matching`, `intervals`, `calibrate`; `calibrating` (`kws calibrate`).
Evaluation: `streams`, `hearing`, `evaluation`, `summary`; its page: `chart`, `specimen`, `look`,
`page`; `evaluating` (`kws evaluate`). Speech Commands as others judge by it: `download`, `part`,
`silence`, `splits`, `protocols`, `strangers`, `classes`, `lexicon`, `classifying`, `accuracy`;
`sorting` (`--protocol`).
The commands of all these stand in `cli`.
"""
