"""BibTeX of what a study used, an entry a part of it."""

from collections.abc import Mapping
from typing import Any

from search.study.config import StudyConfig

PAPERS = {
    "tune": """@article{tune,
  title = {Tune: A Research Platform for Distributed Model Selection and Training},
  author = {Liaw, Richard and Liang, Eric and Nishihara, Robert and Moritz, Philipp and
            Gonzalez, Joseph E. and Stoica, Ion},
  journal = {arXiv:1807.05118},
  year = {2018},
}""",
    "optuna": """@inproceedings{optuna,
  title = {Optuna: A Next-generation Hyperparameter Optimization Framework},
  author = {Akiba, Takuya and Sano, Shotaro and Yanase, Toshihiko and Ohta, Takeru and
            Koyama, Masanori},
  booktitle = {Proceedings of the 25th ACM SIGKDD International Conference on Knowledge Discovery
               and Data Mining},
  pages = {2623--2631},
  year = {2019},
}""",
    "tpe": """@inproceedings{tpe,
  title = {Algorithms for Hyper-Parameter Optimization},
  author = {Bergstra, James and Bardenet, R{\\'e}mi and Bengio, Yoshua and K{\\'e}gl, Bal{\\'a}zs},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {24},
  pages = {2546--2554},
  year = {2011},
}""",
    "nsga2": """@article{nsga2,
  title = {A fast and elitist multiobjective genetic algorithm: {NSGA-II}},
  author = {Deb, Kalyanmoy and Pratap, Amrit and Agarwal, Sameer and Meyarivan, T.},
  journal = {IEEE Transactions on Evolutionary Computation},
  volume = {6},
  number = {2},
  pages = {182--197},
  year = {2002},
}""",
    "asha": """@inproceedings{asha,
  title = {A System for Massively Parallel Hyperparameter Tuning},
  author = {Li, Liam and Jamieson, Kevin and Rostamizadeh, Afshin and Gonina, Ekaterina and
            Ben-tzur, Jonathan and Hardt, Moritz and Recht, Benjamin and Talwalkar, Ameet},
  booktitle = {Proceedings of Machine Learning and Systems},
  volume = {2},
  pages = {230--246},
  year = {2020},
}""",
    "medsegdiff_v1": """@inproceedings{medsegdiff_v1,
  title = {{MedSegDiff}: Medical Image Segmentation with Diffusion Probabilistic Model},
  author = {Wu, Junde and Fu, Rao and Fang, Huihui and Zhang, Yu and Yang, Yehui and
            Xiong, Haoyi and Liu, Huiying and Xu, Yanwu},
  booktitle = {Medical Imaging with Deep Learning},
  note = {arXiv:2211.00611},
  year = {2023},
}""",
    "medsegdiff_v2": """@inproceedings{medsegdiff_v2,
  title = {{MedSegDiff-V2}: Diffusion-Based Medical Image Segmentation with Transformer},
  author = {Wu, Junde and Ji, Wei and Fu, Huazhu and Xu, Min and Jin, Yueming and Xu, Yanwu},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume = {38},
  note = {arXiv:2301.11798},
  year = {2024},
}""",
    "ddpm": """@inproceedings{ddpm,
  title = {Denoising Diffusion Probabilistic Models},
  author = {Ho, Jonathan and Jain, Ajay and Abbeel, Pieter},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {33},
  pages = {6840--6851},
  year = {2020},
}""",
    "unet": """@inproceedings{unet,
  title = {{U-Net}: Convolutional Networks for Biomedical Image Segmentation},
  author = {Ronneberger, Olaf and Fischer, Philipp and Brox, Thomas},
  booktitle = {Medical Image Computing and Computer-Assisted Intervention},
  pages = {234--241},
  year = {2015},
}""",
    "monai": """@article{monai,
  title = {{MONAI}: An open-source framework for deep learning in healthcare},
  author = {Cardoso, M. Jorge and Li, Wenqi and Brown, Richard and others},
  journal = {arXiv:2211.02701},
  year = {2022},
}""",
    "pytorch": """@inproceedings{pytorch,
  title = {{PyTorch}: An Imperative Style, High-Performance Deep Learning Library},
  author = {Paszke, Adam and Gross, Sam and Massa, Francisco and others},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {32},
  pages = {8024--8035},
  year = {2019},
}""",
    "isles24": """@article{isles24,
  title = {{ISLES'24}: A Real-World Longitudinal Multimodal Stroke Dataset},
  author = {Riedel, Evamaria Olga and de la Rosa, Ezequiel and Baran, The Anh and others},
  journal = {arXiv:2408.11142},
  year = {2024},
}""",
    "holm": """@article{holm,
  title = {A Simple Sequentially Rejective Multiple Test Procedure},
  author = {Holm, Sture},
  journal = {Scandinavian Journal of Statistics},
  volume = {6},
  number = {2},
  pages = {65--70},
  year = {1979},
}""",
}
"""By their keys."""
DIFFUSES = ("medsegdiff_v1", "medsegdiff_v2", "diffusion_unet", "guided_unet", "monai_unet")
"""Families of networks that are diffusion models."""


def cited(study: StudyConfig, result: Mapping[str, Any]) -> list[str]:
    """Return the keys of what a study used: its methods, networks, packages and data."""
    keys = ["segtune", "tune", "optuna"]
    keys += [study.sampler.type] if study.sampler.type in PAPERS else []
    keys += ["asha"] if study.scheduler.type == "asha" else []
    if study.trainer is None:
        used = families(study, result)
        keys += [family for family in used if family in PAPERS]
        keys += ["ddpm"] if {*used} & {*DIFFUSES} else []
        keys += ["monai", "pytorch"]
    if (result["data"] or {}).get("layout") == "isles24":
        keys.append("isles24")
    if any(event["comparisons"] for event in result["verdicts"]):
        keys.append("holm")
    return keys


def families(study: StudyConfig, result: Mapping[str, Any]) -> list[str]:
    """Return the families of the networks that segtune's trainer trained, each once."""
    usual = study.train_config({}).model.family
    rows = [*result["trials"], *result["references"]]
    found = [str(row["params"].get("model.family", usual)) for row in rows]
    return list(dict.fromkeys(found))


def bibliography(keys: list[str], version: str) -> str:
    """Return a .bib file.

    Args:
        keys: As `cited` returns them.
        version: Of segtune, as LaTeX.
    """
    own = (
        "@misc{segtune,\n  title = {segtune},\n  author = {{the segtune developers}},\n"
        f"  note = {{Software, version {version}}},\n}}"
    )
    entries = PAPERS | {"segtune": own}
    return "\n\n".join(entries[key] for key in keys) + "\n"
