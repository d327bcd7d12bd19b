"""The run folder: everything a trained machine is, in JSON and safetensors, read with suspicion."""

import json
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from reverie.core.config import from_json, to_json
from reverie.core.errors import BadInput
from reverie.core.model import Model
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data import Data, open_data
from reverie.data.codecs import Codec, codec_from_json
from reverie.files import as_json, at_rest, read_tensors, whole_rows, write_atomically
from reverie.models import MODELS, made
from reverie.training import State

BEST = "best.safetensors"
SEEDS = 2**63 - 1  # the greatest there is


class Best(NamedTuple):
    """Of the best weights of a run: after which round they were kept, and how far their dreams lay from held-out examples."""

    step: int
    distance: float  # squared kernel distance


class Run:
    """One run folder. `load` reads it; the properties open its parts when they are asked for.

    config.json (model, data, settings, versions), model.safetensors (the weights to use), best.safetensors (those whose
    dreams were nearest to held-out examples, of a model that is judged so), state/ (all that is needed to go on),
    log.jsonl, scores.json, dreams/, report.html.
    """

    def __init__(self, folder: Path, config: dict[str, Any], at_best: bool = False):
        self.folder = folder
        self.config = config
        self.at_best = at_best
        self._model: Model | None = None

    @staticmethod
    def create(
        folder: Path,
        model: str,
        config: Any,
        training: TrainingConfig,
        data: Data,
        seed: int,
        command: str = "",
        per_class: int = 0,
        device: str = "cpu",
        processes: int = 1,
    ) -> "Run":
        """A new folder with its config.json, all at once; BadInput if something is there already."""
        settings = {
            "model": model,
            "model_config": to_json(config),
            "per_class": per_class,
            "training": to_json(training),
            "seed": seed,
            "space": data.space.to_json(),
            "codec": data.codec.to_json(),
            "data": {
                "name": data.name,
                "spec": data.spec,
                "fingerprint": data.fingerprint,
                "classes": list(data.classes),
                "channels": list(data.channels),
            },
            "command": command,
            "versions": {name: version(name) for name in ("reverie", "torch", "numpy", "lightning-fabric")},
            "threads": torch.get_num_threads(),
            "device": device,
            "processes": processes,
        }
        folder = folder.absolute()
        if folder.exists():
            raise BadInput(f"{folder} exists already; give another --out, or --resume to go on with that run")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".reverie-") as made:
                inner = Path(made) / "run"
                inner.mkdir()
                (inner / "config.json").write_bytes(as_json(settings))
                inner.rename(folder)
        except OSError as error:
            raise BadInput(f"cannot make {folder}: {error.strerror}; choose another --out") from error
        return Run(folder, settings)

    @staticmethod
    def load(path: str | Path, best: bool = False) -> "Run":
        """The run at `path`; BadInput in one line for anything that is not a whole and honest run folder.

        With `best`, or where `path` is that of its best.safetensors, its machine has these weights and not the last.
        """
        folder = Path(path).absolute()
        if folder.name == BEST:
            folder, path, best = folder.parent, Path(path).parent, True
        if not folder.is_dir():
            raise BadInput(f"no run folder at {path}; make one with: reverie train faces --out {path}")
        file = folder / "config.json"
        try:
            config = json.loads(file.read_bytes())
        except OSError as error:
            raise BadInput(f"{path} is not a run folder: its config.json cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise BadInput(f"{file} is damaged: not JSON ({error})") from error
        wanted = {"model", "model_config", "training", "seed", "space", "codec", "data"}
        if not isinstance(config, dict) or (missing := sorted(wanted - set(config))):
            raise BadInput(f"{file} is not a run's: it lacks {missing[0] if isinstance(config, dict) else 'settings'}")
        words = config["data"].get("classes") if isinstance(config["data"], dict) else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise BadInput(f"{file} does not say which classes its data have; the folder is damaged")
        told = config["data"]
        if not (
            isinstance(told.get("spec"), dict)
            and all(isinstance(told.get(key), str) for key in ("name", "fingerprint"))
        ):
            raise BadInput(f"{file} does not say where its data lie; the folder is damaged")
        if type(config["seed"]) is not int or not 0 <= config["seed"] <= SEEDS:
            raise BadInput(f"{file} has no seed, but {str(config['seed'])[:40]!r}; the folder is damaged")
        if best and not (folder / BEST).is_file():
            raise BadInput(f"{path} has no {BEST}; they are kept of machines without a likelihood, such as a gan")
        run = Run(folder, config, best)
        run.blank()  # settings that make no model are refused here, not later
        if (codec := run.codec).kind != run.space.kind or len(getattr(codec, "mean", ())) not in (
            0,
            1,
            run.space.shape[-1],
        ):
            raise BadInput(
                f"{file} tells of a codec that does not fit its examples {run.space.shape}; the folder is damaged"
            )
        return run

    @property
    def name(self) -> str:
        return f"{self.folder.name} (best)" if self.at_best else self.folder.name

    def place(self, name: str) -> Path:
        """Where lies what is said of the machine, such as its scores.json: of the best weights under another name."""
        return self.folder / (f"best-{name}" if self.at_best else name)

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def training(self) -> TrainingConfig:
        return from_json(TrainingConfig, self.config["training"])

    @property
    def space(self) -> Space:
        return Space.from_json(self.config["space"])

    @property
    def codec(self) -> Codec:
        return codec_from_json(self.config["codec"])

    def blank(self, device: str = "meta") -> Model:
        """The model as it is before training; on the meta device it takes no memory, whatever its settings say."""
        name = self.config["model"]
        if not isinstance(name, str) or name not in MODELS:
            raise BadInput(f"{self.folder} holds a model {name!r}; this reverie knows {', '.join(MODELS)}")
        family = MODELS[name]
        config: Any = from_json(family.Config, self.config["model_config"])
        per_class = self.config.get("per_class", 0)
        if per_class not in (0, len(self.config["data"]["classes"])):
            raise BadInput(f"{self.folder} tells of {per_class!r} machines for its classes; its config.json is damaged")
        try:
            with torch.device(device):
                return made(name, config, self.space, per_class)
        except RuntimeError as error:  # sizes whose product is no size
            raise BadInput(f"{self.folder} asks for a model of impossible shape; its config.json is damaged") from error

    @property
    def model(self) -> Model:
        """The trained model, ready to use (averaged weights, evaluation mode)."""
        if self._model is None:
            self._model = self._read_model()
        return self._model

    def _read_model(self) -> Model:
        path = self.folder / (BEST if self.at_best else "model.safetensors")
        if not path.exists():
            raise BadInput(
                f"{self.folder} has no weights yet; go on with: reverie train … --out {self.folder} --resume"
            )
        tensors, _ = read_tensors(path)
        wanted = {k: tuple(v.shape) for k, v in self.blank().state_dict().items()}
        found = {k: tuple(v.shape) for k, v in tensors.items()}
        if wanted != found:
            name = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
            raise BadInput(f"{path} does not fit config.json: {name} differs; the folder is damaged or mixed up")
        if bad := [name for name, value in tensors.items() if not value.isfinite().all()]:
            raise BadInput(f"{path} holds numbers that are not finite in {bad[0]}; the folder is damaged")
        model = self.blank("cpu")
        model.load_state_dict(tensors)
        return model.requires_grad_(False).eval()

    def data(self, progress: Any = None) -> Data:
        """The data it was trained on, opened again and checked to be the same."""
        told = self.config["data"]
        try:
            data = open_data(**told["spec"], progress=progress)
        except TypeError as error:
            raise BadInput(f"{self.folder} does not say where its data lie; give DATA explicitly") from error
        if data.fingerprint != told["fingerprint"]:
            raise BadInput(f"{told['name']} has changed since {self.folder} was trained; give DATA explicitly")
        return data

    @property
    def log(self) -> list[dict[str, Any]]:
        """The rows of log.jsonl, oldest first; a torn last line is left out."""
        try:
            lines = (self.folder / "log.jsonl").read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return []
        return list(map(json.loads, whole_rows(lines)))

    def dreams(self) -> Iterator[tuple[int, np.ndarray]]:
        """(round, dreams (n, *shape) in world units) from the same latents, as training went on."""
        for path in sorted((self.folder / "dreams").glob("[0-9]*.npy")):
            try:
                yield int(path.stem), np.load(path, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise BadInput(f"{path} is damaged; delete it") from error

    @property
    def scores(self) -> list[dict[str, Any]]:
        """The rows of scores.json, [] before the run was evaluated."""
        try:
            return json.loads(self.place("scores.json").read_bytes())["scores"]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError) as error:
            again = f"write it again with: reverie evaluate {self.folder}"
            raise BadInput(f"{self.place('scores.json')} is damaged; {again}") from error

    @property
    def best(self) -> Best | None:
        """Of the weights in best.safetensors; None where there are none."""
        path = self.folder / BEST
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                told = json.loads(file.metadata()["reverie"])
            return Best(int(told["step"]), float(told["distance"]))
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise BadInput(f"{path} is damaged; delete it, or use another copy of the run") from error

    def save_config(self) -> None:
        write_atomically(self.folder / "config.json", as_json(self.config))

    def save_model(self, model: Model) -> None:
        write_atomically(self.folder / "model.safetensors", save(at_rest(model.state_dict())))

    def save_best(self, model: Model, best: Best) -> None:
        about = {"reverie": json.dumps(best._asdict())}
        write_atomically(self.folder / BEST, save(at_rest(model.state_dict()), about))

    def save_state(self, state: State) -> None:
        # One file, so that no kill can separate the weights from the round they belong to.
        about = {"reverie": json.dumps({"step": state.step})}
        write_atomically(self.folder / "state" / "checkpoint.safetensors", save(at_rest(state.tensors()), about))

    @property
    def kept(self) -> int:
        """The round that `restore_state` goes on from; 0 where none was saved yet."""
        path = self.folder / "state" / "checkpoint.safetensors"
        return int(json.loads(read_tensors(path)[1]["reverie"])["step"]) if path.exists() else 0

    def restore_state(self, state: State) -> bool:
        """Puts the saved state back; False if none was saved yet."""
        path = self.folder / "state" / "checkpoint.safetensors"
        if not path.exists():
            return False
        tensors, about = read_tensors(path)
        try:
            state.restore(tensors, int(json.loads(about["reverie"])["step"]))
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise BadInput(f"{path} does not belong to this run; delete state/ to start it anew") from error
        return True
