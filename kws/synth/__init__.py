"""The synthesis wing: words made from text. It needs what speech engines there are (extra `synth`),
and neither torch nor the models.

`sound` (what every clip goes through), `engine` (what an engine is), one module for each: `kokoro`,
`piper`, `hibari`, `pico`, `espeak`, `flite`, `festival`; `engines` (which are there). `dictionary`
(how words are pronounced), `phrase` (what can be asked for), `phonemes` (ARPAbet), `neighbours`
(what sounds like a phrase). `plan` (who says what, and how), `speaking` (all cores, resumable, a
table of what was spoken by whom); `command` and `cli` (`kws synth`, `kws neighbours`).
"""
