"""What the commands refuse: one readable line with the place and the remedy, and exit code 2."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from command_line import QUICK, SMALL, Run
from PIL import Image
from safetensors.torch import save_file
from written_runs import write_run

from effnas import Architecture, SearchSpace, TrialState
from effnas.arch.files import to_json

NET = Architecture.parse("fused_r1_k3_s2_e1_c8 mbconv_r1_k3_s2_e2_c8_se0.25", stem=8, head=16)
OTHER = Architecture.parse("fused_r1_k3_s2_e1_c8 mbconv_r1_k3_s2_e2_c12_se0.25", stem=8, head=16)
BLOCKS = "fused_r1_k3_s1_e1_c16"
STAGE = "stages:\n  - "

#: What stands before the options of a case, so that it would be a short command without them.
BEFORE = {
    "search": QUICK,
    "proxy": ["check", "--space", SMALL, "--backend", "inline"],
    "train": ["net.json", "--data", "photos", "--recipe", "recipe.yaml", "--device", "cpu"],
    "promote": [],
    "scale": ["s.json", "--device", "none"],
    "scaling": [],
    "export": ["net.json"],
}

CASES = {
    # Spaces, with file, line and column
    "space misspelt.yaml": ["misspelt.yaml:2:18", "'z'", "r, k, s"],
    "space typed.yaml": ["typed.yaml:1:7"],
    "space unknown.yaml": ["unknown.yaml:1:1", "did you mean 'stages'"],
    "space contradiction.yaml": ["no architecture meets", "stage1.r > 2", "stage1.r = 2"],
    "search --space misspelt.yaml": ["misspelt.yaml:2:18"],
    # Searches
    "search --space v22": ["did you mean 'v2'"],
    "search --space v2": ["the space v2 is for images of 300 px", "no --data", "--space tiny"],
    "search --data nowhere": ["'nowhere'", "torch/cifar10"],
    "search --data digit": ["no data set 'digit'", "did you mean 'digits'?"],
    "search --data phots": ["did you mean 'photos'?"],
    "search --data one": ["one class", "'a'"],
    "search --out /proc/none": ["/proc/none", "--out"],
    "search --out photos": ["photos", "not empty", "--out"],
    "search --reward 'A * speed'": ["'speed'", "step_time"],
    "search --reward none.py:f": ["none.py"],
    "search --constraint 'parms <= 5e6'": ["'parms'", "did you mean 'params'"],
    "search --constraint 'params * 2'": ["'params * 2' is a number", "params <= 30e6"],
    "search --constraint 'stage1.r > 2'": ["no architecture meets 'stage1.r > 2'", "= 1;"],
    "search --constraint 'largest_batch_size > 8'": ["needs largest_batch_size", "nothing gives"],
    "search --budget 0": ["--budget", "1 or more"],
    "search --budget many": ["--budget: a whole number", "`effnas search --help`"],
    "search --spce tiny": ["--spce", "--space", "`effnas search --help`"],
    "search tiny": ["tiny", "`effnas search --help`"],
    "serch": ["did you mean 'search'"],
    "resume": ["'FOLDER'", "`effnas resume --help`"],
    "resume run --budget 0": ["--budget", "1 or more"],
    "resume run --seed many": ["--seed: a whole number", "`effnas search --help`"],
    "search --controller evolutoin": ["did you mean 'evolution'"],
    "search --objectives accuracy:up": ["accuracy:max or accuracy:min"],
    "search --objectives A:max --objectives A:min": ["accuracy", "twice"],
    "search --objectives ''": ["--objectives", "accuracy"],
    "search --objectives A:max,S:min --controller evolution": ["evolution", "optuna:nsgaii"],
    "search --epochs 0": ["epochs", "above 0"],
    "search --fidelity 4,2": ["--fidelity 4,2", "such as 1,2,4"],
    "search --train-time soon": ["--train-time 'soon'", "write 90s, 4m or 1.5h"],
    "search --train-time 1s --epochs 2": ["--epochs and --train-time both", "leave out"],
    "search --fidelity 15s,1m": ["--fidelity 15s,1m is in seconds", "as in 1,2,4"],
    "search --fidelity 1,2,4": ["--fidelity 1,2,4 ends at 4", "has 1", "--epochs"],
    "search --seed -1": ["--seed"],
    "search --device cuda:77": ["cuda:77", "--device cpu"],
    "search --recipe none.yaml": ["none.yaml"],
    "search --workers 2": ["--backend inline", "--workers"],
    "search --on-bad-image mend": ["--on-bad-image"],
    "search --step-time auto": ["--profile", "effnas profile"],
    "search --profile a --step-times b": ["choose one source"],
    "search --step-time-command cat": ["{arch_json}"],
    "proxy --space v2-b0": ["the space v2-b0 is for images of 192 px", "no --data is given"],
    "proxy --networks 3": ["--networks", "4 or more"],
    "status photos": ["photos"],
    # Timing
    "bench efficientnet_b00": ["did you mean 'efficientnet_b0'"],
    "bench run": ["run: a folder", "run:best"],
    "bench nowhere/net": ["nowhere/net: no network", "RUN:NUMBER"],
    f"bench {BLOCKS} --batch-size 0": ["--batch-size", "1 or more"],
    f"bench {BLOCKS} --interval 0": ["--interval", "above 0"],
    "profile --space tiny --out .": ["--out"],
    "profile --space tiny --classes 0": ["--classes", "1 or more"],
    # What continues from a run
    "retarget nowhere": ["nowhere", "no run there"],
    "retarget run --timings 0": ["--timings", "1 or more"],
    "retarget run --out run": ["--out"],
    "promote none": ["none: of 2 trials, none is complete"],
    "promote run --top 0": ["--top is 0", "1 or more"],
    "promote run --seeds 0": ["--seeds is 0", "1 or more"],
    "promote run --out run": ["run: it holds no finals, but a search; choose another --out"],
    "promote finals": ["finals: it holds no run, but finals; give a folder", "`effnas search`"],
    "promote function": ["the Python function", "--reward"],
    "promote bare": ["bare", "names no recipe"],
    # Scaling
    "scale --family v3": ["no family is called 'v3'", "did you mean"],
    "scale --family v2 --phi 1": ["choose one"],
    "scale --alpha 0.9": ["alpha is 0.9", "1 or more"],
    "scale --phi 1 --phi a": ["--phi '1,a'"],
    "scale --phi a": ["--phi 'a'", "0.5,1"],
    "scale --round-limit 2": ["--round-limit is 2", "0 to 1"],
    "scale --max-image-size 200": ["200 px", "384 or more as --max-image-size"],
    "scale --params 20e6": ["params of 21,458,488", "more than --params 20e6"],
    "scale --family odd.yaml --params 1e9": ["member c has less", "than b"],
    "scale --step-time fast": ["--step-time fast", "2x"],
    "scale --memory small": ["--memory small", "2x"],
    "scale --params 0.5x": ["more than --params 0.5x"],
    "scale --step-time 2x": ["--step-time needs a --device"],
    "scale --out s.json": ["s.json", "not a folder"],
    "scaling coefficients none.json": ["none.json", "no such file"],
    "scaling coefficients run:99": ["no trial '99'"],
    f"scaling coefficients {BLOCKS}": ["no run says which images", "--data"],
    "scaling coefficients run:best --macs 1.001x": ["what binds", "--macs 1.001x"],
    "scaling coefficients run:best --memory lots": ["--memory lots", "above 0"],
    "scaling coefficients run:best --out run": ["run", "holds no search for a way to scale"],
    "scaling layers run:best --member s": ["the base itself", "m, l, xl"],
    "scaling layers run:best --slopes a": ["--slopes 'a'"],
    "scaling layers run:best --tolerance 0": ["--tolerance is above 0"],
    # Training and exporting
    "train --recipe smaller.yaml": ["smaller.yaml:2:13", "do not decrease"],
    "train --train-time 0s": ["--train-time '0s' is no time above 0"],
    "train --train-time 9s --epochs 2": ["--epochs and --train-time both", "leave out"],
    "train --image-size big": ["'big'", "32..64"],
    "train --batch-size 0": ["batch_size is 0", "1 or more"],
    "train --device-batch-size 0": ["--device-batch-size is 0", "1 or more"],
    "train --checkpoint-every -1": ["--checkpoint-every is -1", "0 seconds or more"],
    "train --new-head": ["--new-head goes with --weights"],
    "train --weights torn.safetensors": ["torn.safetensors", "not a whole safetensors file"],
    "train --weights other.safetensors": ["other.safetensors", "the tensor", "weights of net"],
    "train --weights classes.safetensors": ["the tensor classifier.", "--new-head"],
    "train --data bad": ["torn.png", "--on-bad-image skip"],
    "train --out photos": ["photos", "not empty", "--out"],
    "train --out run": ["run", "holds no training", "--out"],
    "train --out torn": ["torn/manifest.json", "not valid JSON", "restore it"],
    "train --test": ["photos", "no test part"],
    "export --formats tflite --formats timm": ["--formats 'tflite'"],
    "export --formats timm,tflite": ["--formats 'tflite'", "torch-export"],
    "export --image-size 0": ["--image-size is 0", "1 to 4096"],
    "export --weights other.safetensors": ["blocks.1.0"],
    "export --out net.json": ["net.json", "exists already"],
    "export --weights classes.safetensors --classes 4": ["classifier.weight"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the cases name."""
    made = tmp_path_factory.mktemp("files")
    for name, text in {
        "misspelt": STAGE + "mbconv_r2_k3_z1_e1_c8\n",
        "typed": "stem: wide\n" + STAGE + "mbconv_r2_k3_s1_e1_c8\n",
        "unknown": "stagez:\n  - x\n",
        "contradiction": STAGE + "mbconv_r<1..3>_k3_s1_e1_c8\n"
        "constraints: [stage1.r > 2, stage1.r < 2]\n",
        "odd": "members: {a: {image_size: 64}, b: {depth: 3, image_size: 64}, "
        "c: {depth: 2, image_size: 64}}",
        "recipe": "epochs: 2\nbatch_size: 18\nimage_size: 8\n",
        "smaller": "epochs: 1\nimage_size: [64, 32]\n",
    }.items():
        (made / f"{name}.yaml").write_text(text)
    for path in ("one/a", "photos/a", "photos/b", "bad/a", "bad/b"):
        (made / path).mkdir(parents=True)
        for n in range(12):
            pixels = np.full((12, 12, 3), 9 * n, dtype=np.uint8)
            Image.fromarray(pixels).save(made / path / f"{n}.png")
    (made / "bad/a/torn.png").write_bytes(b"\x89PNG nothing")
    (made / "net.json").write_text(to_json(NET))
    (made / "s.json").write_text(to_json(SearchSpace.load("v2").reference))
    (made / "torn.safetensors").write_bytes(b"\0" * 20)
    save_file(OTHER.build(num_classes=2).state_dict(), made / "other.safetensors")
    save_file(NET.build(num_classes=5).state_dict(), made / "classes.safetensors")
    write_run(made / "run")
    write_run(made / "none", TrialState.INFEASIBLE)
    for name, old, new in (("function", '"expression"', '"function"'), ("bare", '"recipe"', '"r"')):
        write_run(made / name)
        file = made / name / "manifest.json"
        file.write_text(file.read_text().replace(old, new))
    for name, text in (("torn", '{"forma'), ("finals", '{"format": 1, "kind": "finals"}')):
        (made / name).mkdir()
        (made / name / "manifest.json").write_text(text)
    return made


@pytest.mark.parametrize(("typed", "words"), CASES.items(), ids=CASES)
def test_a_mistake_is_one_line_with_place_and_remedy(
    effnas: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, typed: str, words: list[str]
) -> None:
    monkeypatch.chdir(folder)
    before = set(folder.iterdir())
    command, *options = shlex.split(typed)
    result = effnas(command, *BEFORE.get(command, []), *options)
    assert result.code == 2, result.err
    error = result.err.splitlines()
    assert all(word in result.err for word in words), result.err
    assert error[0].startswith("effnas: error: ")
    is_placed = re.search(r":\d+:\d+: ", error[0])
    assert len(error) == (3 if is_placed else 1)  # a place is shown with its line
    assert {path.name for path in set(folder.iterdir()) - before} <= {"runs", "exports"}


def test_an_error_outside_the_users_hands_shows_a_traceback_only_if_asked(
    effnas: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr("effnas.cli.space.show_space", broken)
    quiet = effnas("space", "v2")
    assert quiet.code == 1
    assert quiet.err.startswith("effnas: internal error: KeyError")
    assert "Traceback" not in quiet.err
    assert "Traceback" in effnas("space", "v2", "--debug").err
