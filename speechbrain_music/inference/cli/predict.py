"""The command `sbmusic predict`."""

import sys

from speechbrain_music.data_prep.files import check_output
from speechbrain_music.dataio.annotations import write_annotation
from speechbrain_music.evaluation.probe_files import load_probe, predict_file
from speechbrain_music.inference.encoder import find_device
from speechbrain_music.reporting.annotation_picture import draw_annotation
from speechbrain_music.utils.errors import UserError, escaped


def run(args):
    """Write the annotation, and the picture."""
    device = find_device(args.device)
    probe = load_probe(args.probe, args.encoder, args.trust_remote_code)
    suffix = ".beats" if probe.task.column == "beats" else ".lab"
    for path, ending in ((args.out, suffix), (args.picture, ".png")):
        if path and (path.suffix != ending or path.is_symlink() or path.exists()):
            raise UserError(f"{path} must be a new file that ends in {ending}: choose another name")
        check_output(path or args.out)
    annotation = predict_file(probe, args.audio, device)
    write_annotation(args.out, annotation)
    if args.picture:
        draw_annotation(args.picture, args.audio, annotation, args.audio.name)
    found = f"{len(annotation[0])} {probe.task.column} of {args.audio} in {args.out}"
    print(escaped(found), file=sys.stderr)
