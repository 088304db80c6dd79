"""Small MIDI files in folders by their kind."""

import pytest


def write_tunes(folder):
    symusic = pytest.importorskip("symusic")
    for kind, step in (("jigs", 1), ("reels", 2)):
        (folder / kind).mkdir(parents=True)
        for number in range(8):
            score, track = symusic.Score(480), symusic.Track()
            for place in range(16):
                pitch, velocity = 60 + (number + step * place) % 12, 50 + 10 * (place % 4)
                track.notes.append(symusic.Note(240 * place, 240, pitch, velocity))
            score.tracks.append(track)
            score.dump_midi(folder / kind / f"{number}.mid")
