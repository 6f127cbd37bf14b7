"""Synthesis of speech from text, with the engines that are installed (extra `synth`).

engines/        one module an engine; base: their interface; registry: which are installed
pronunciation   the dictionary
accents         of English, as replacements of phonemes
phonemes        ARPAbet, as the engines write it
phrase          which phrases can be synthesized, and how they are written
carriers        what is said around a phrase
confusables     words and phrases that sound like a phrase
plan            who speaks which clip, and how
render          speaks the clips of a plan on all cores
audio           what every clip passes through: resampling, trimming, level
corpus          the work of `kws synth` and `kws confusables`
"""
