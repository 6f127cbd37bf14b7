"""One recording in every format that ffmpeg and sox write, with the properties of each file."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

RECORDINGS = Path(__file__).parents[2] / "recordings"
VIDEO = "-f lavfi -i testsrc=size=64x48:rate=5:duration=7.2"  # a video track
COVER = "-f lavfi -i testsrc=size=64x48:rate=1:duration=1"
COVERED = "-map 1:a -map 0:v -frames:v 1 -c:v mjpeg -disposition:v attached_pic"


@dataclass(frozen=True)
class Form:
    """A file `name` that `program` writes with `options`, after what it reads with `before`.

    `delay_seconds` is how much later than in the source all is heard: what the coder puts before
    the first sample where the file does not tell of it, or silence that is meant.
    `tolerance_seconds` is how far decoders may be apart about that. It is written from a file of
    the form `of`, where one is given, instead of from the source.
    """

    name: str
    program: str
    options: str = ""
    before: str = ""
    delay_seconds: float = 0.0
    tolerance_seconds: float = 0.02
    of: "Form | None" = None

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def programs(self) -> set[str]:
        return {self.program} | (self.of.programs if self.of else set())

    def write(self, source: Path, folder: Path) -> Path:
        """The source in this format, as a file in `folder`."""
        source = self.of.write(source, folder) if self.of else source
        path = folder / self.name
        options, before = self.options.split(), self.before.split()
        if self.program == "sox":
            # -R: the same dither each time.
            command = ["sox", "-q", "-R", source, *options, path]
        else:
            begin = ["ffmpeg", "-v", "error", "-nostdin", "-y", *before, "-i", source]
            command = [*begin, *options, "-flags", "+bitexact", f"file:{path}"]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return path


def ffmpeg(name: str, options: str = "", before: str = "", **known: object) -> Form:
    return Form(name, "ffmpeg", options, before, **known)


def sox(name: str, options: str = "", **known: object) -> Form:
    return Form(name, "sox", options, **known)


# With intermittent noise a telephone takes the pauses for speech, too.
BUSY = ffmpeg(
    "busy.wav",
    "-filter_complex [0][1]amix=duration=shortest:normalize=0",
    "-f lavfi -i anoisesrc=amplitude=0.03:color=pink:sample_rate=16000:seed=1,tremolo=f=5:d=1",
)
AMR = sox("speech.amr", "-r 8000 -t amr-nb -C 7", of=BUSY)

# Names: container, codec or sample format, and other properties (kHz, channels).
FORMS = [
    # WAV and its relatives
    ffmpeg("u8.wav", "-c:a pcm_u8"),
    ffmpeg("s16-8k.wav", "-ar 8000"),
    ffmpeg("s16-11k.wav", "-ar 11025"),
    ffmpeg("s16-44k-stereo.wav", "-ar 44100 -ac 2"),
    ffmpeg("s24-48k-5.1.wav", "-c:a pcm_s24le -ar 48000 -ac 6"),
    ffmpeg("s24-96k.wav", "-c:a pcm_s24le -ar 96000"),
    ffmpeg("s32.wav", "-c:a pcm_s32le"),
    ffmpeg("f32-22k-4ch.wav", "-c:a pcm_f32le -ar 22050 -ac 4"),
    ffmpeg("f64.wav", "-c:a pcm_f64le"),
    ffmpeg("mulaw-8k.wav", "-c:a pcm_mulaw -ar 8000"),
    ffmpeg("alaw.wav", "-c:a pcm_alaw"),
    ffmpeg("adpcm-ima-22k-stereo.wav", "-c:a adpcm_ima_wav -ar 22050 -ac 2"),
    ffmpeg("adpcm-ms.wav", "-c:a adpcm_ms"),
    ffmpeg("adpcm-yamaha.wav", "-c:a adpcm_yamaha"),
    ffmpeg("gsm-8k.wav", "-c:a libgsm_ms -ar 8000"),
    ffmpeg("g726-8k.wav", "-c:a g726 -ar 8000"),
    ffmpeg("mp3.wav", "-c:a libmp3lame", delay_seconds=1105 / 16_000),
    ffmpeg("rf64.rf64", "-f wav -rf64 always"),
    ffmpeg("s24.w64", "-c:a pcm_s24le"),
    # other uncompressed formats
    ffmpeg("s16.aiff"),
    ffmpeg("s24-48k-stereo.aif", "-c:a pcm_s24be -ar 48000 -ac 2"),
    ffmpeg("mulaw.aifc", "-c:a pcm_mulaw -f aiff"),
    ffmpeg("s16.au"),
    ffmpeg("mulaw-8k.au", "-c:a pcm_mulaw -ar 8000"),
    ffmpeg("s16.caf"),
    sox("s24.au", "-b 24"),
    sox("u8-8k.voc", "-r 8000 -b 8"),
    sox("s16.sph"),
    sox("ulaw.sph", "-e mu-law"),
    sox("s8.8svx"),
    sox("f32.sf", "-e float"),
    sox("s16.w64"),
    sox("s16.paf", "-t paf"),
    sox("s16.avr"),
    sox("s16.maud"),
    sox("gsm.gsm", "-r 8000"),
    # lossless
    ffmpeg("s16.flac"),
    ffmpeg("s24-96k-stereo.flac", "-sample_fmt s32 -ar 96000 -ac 2"),
    ffmpeg("flac.ogg", "-c:a flac"),
    ffmpeg("alac.caf", "-c:a alac"),
    ffmpeg("alac.m4a", "-c:a alac"),
    ffmpeg("wavpack.wv", "-ar 44100 -ac 2"),
    ffmpeg("tta.tta"),
    ffmpeg("truehd.thd", "-c:a truehd -ar 48000 -strict -2"),
    # Ogg
    ffmpeg("vorbis.ogg", "-c:a libvorbis"),
    ffmpeg("vorbis-48k-5.1.oga", "-c:a libvorbis -ar 48000 -ac 6"),
    ffmpeg("opus-24k.opus", "-c:a libopus -b:a 24k"),
    ffmpeg("opus-stereo.ogg", "-c:a libopus -ac 2 -b:a 96k"),
    ffmpeg("speex.spx", "-c:a libspeex"),
    ffmpeg("speex-8k.ogg", "-c:a libspeex -ar 8000"),
    # MPEG
    ffmpeg("cbr.mp3", "-b:a 48k"),
    ffmpeg("cbr-44k-stereo.mp3", "-b:a 128k -ar 44100 -ac 2"),
    ffmpeg("vbr-22k.mp3", "-q:a 4 -ar 22050"),
    ffmpeg("vbr-48k-stereo.mp3", "-q:a 2 -ar 48000 -ac 2"),
    ffmpeg("cbr-8k.mp3", "-b:a 16k -ar 8000"),
    ffmpeg("no-xing.mp3", "-b:a 64k -ar 44100 -write_xing 0", delay_seconds=1105 / 44_100),
    ffmpeg(
        "bare-vbr.mp3",
        "-q:a 6 -ar 32000 -write_xing 0 -id3v2_version 0",
        delay_seconds=1105 / 32_000,
    ),
    ffmpeg("tagged.mp3", "-b:a 48k -write_id3v1 1 -metadata title=Welcome -metadata artist=Kokoro"),
    ffmpeg("cover.mp3", f"-b:a 48k {COVERED}", COVER),
    ffmpeg("layer2.mp2", "-c:a mp2 -ar 48000 -ac 2"),
    ffmpeg("adts.aac", delay_seconds=1024 / 16_000),
    ffmpeg("adts-44k-stereo.aac", "-ar 44100 -ac 2", delay_seconds=1024 / 44_100),
    # MP4 and QuickTime
    ffmpeg("aac.m4a"),
    ffmpeg("aac-44k-stereo.m4a", "-ar 44100 -ac 2 -movflags +faststart"),
    ffmpeg("cover.m4a", COVERED, COVER),
    ffmpeg("aac.m4b", "-f ipod"),
    ffmpeg(
        "fragments.mp4",
        "-movflags frag_keyframe+empty_moov -frag_duration 1000000",
        delay_seconds=1024 / 16_000,
    ),
    ffmpeg("video.mp4", "-c:v mpeg4 -c:a aac -ar 48000", VIDEO),
    ffmpeg("late-sound.mp4", "-c:v mpeg4 -c:a aac", f"{VIDEO} -itsoffset 2", delay_seconds=2.0),
    ffmpeg("opus.mp4", "-c:a libopus"),
    ffmpeg("s16.mov", "-c:a pcm_s16le"),
    ffmpeg("video.mov", "-c:v mpeg4 -c:a aac", VIDEO),
    ffmpeg("aac.3gp", "-c:a aac"),
    ffmpeg("amr.3gp", "-c copy", of=AMR),
    # Matroska and WebM
    ffmpeg("vorbis.mka", "-c:a libvorbis"),
    ffmpeg("flac.mka", "-c:a flac"),
    ffmpeg("video-aac.mkv", "-c:v mpeg4 -c:a aac", VIDEO, delay_seconds=1024 / 16_000),
    ffmpeg("video-s16.mkv", "-c:v mpeg4 -c:a pcm_s16le", VIDEO),
    ffmpeg("late-sound.mkv", "-c:v mpeg4 -c:a flac", f"{VIDEO} -itsoffset 2", delay_seconds=2.0),
    ffmpeg("opus.webm", "-c:a libopus"),
    ffmpeg("vorbis.webm", "-c:a libvorbis"),
    ffmpeg("video-opus.webm", "-c:v libvpx -c:a libopus", VIDEO),
    ffmpeg("video-vorbis.webm", "-c:v libvpx -c:a libvorbis", VIDEO),
    # broadcast, Windows, telephones
    ffmpeg("aac.ts", "-c:a aac", delay_seconds=1024 / 16_000),
    ffmpeg("layer2.ts", "-c:a mp2", delay_seconds=481 / 16_000),
    ffmpeg("video-mp2.ts", "-c:v mpeg2video -r 25 -c:a mp2 -ar 48000", VIDEO),
    ffmpeg("video-mp2.mpg", "-c:v mpeg1video -r 25 -c:a mp2 -ar 44100", VIDEO),
    ffmpeg("ac3.ac3", "-ar 48000 -ac 6"),
    ffmpeg("eac3.eac3", "-ar 48000"),
    ffmpeg("dts.dts", "-c:a dca -strict -2 -ar 48000 -ac 2"),
    # Decoders differ in whether they give the first, half frame of Windows Media Audio.
    ffmpeg("wma2.wma", "-c:a wmav2", tolerance_seconds=0.05),
    ffmpeg("wma1-44k-stereo.wma", "-c:a wmav1 -ar 44100 -ac 2", tolerance_seconds=0.05),
    ffmpeg("video-wma.wmv", "-c:v wmv2 -c:a wmav2", VIDEO, tolerance_seconds=0.05),
    ffmpeg("video-mp3.avi", "-c:v mpeg4 -c:a libmp3lame", VIDEO, delay_seconds=1105 / 16_000),
    ffmpeg("video-s16.avi", "-c:v mpeg4 -c:a pcm_s16le", VIDEO),
    ffmpeg("video-aac.flv", "-c:v flv -c:a aac", VIDEO, delay_seconds=1024 / 16_000),
    AMR,
    # In pauses its frames hold only the noise level, or nothing.
    sox("pauses.amr", "-r 8000 -t amr-nb -C 7"),
    ffmpeg("g722.g722"),
]
