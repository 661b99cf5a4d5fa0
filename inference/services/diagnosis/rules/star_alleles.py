"""Star alleles that a few positions tell apart, on the plus strand of GRCh38 (CPIC tables).

A "Y" at a position means C or T: the allele says nothing about it. CYP2D6 is not here: without copy
number and hybrid genes it cannot be called from positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

SOURCE = "CPIC allele definition and functionality tables (cpicpgx.org), CC0, data release 1.60"

NORMAL, INCREASED, DECREASED, NONE = "normal", "increased", "decreased", "no"


@dataclass(frozen=True, kw_only=True)
class GenePanel:
    """The positions of a gene and its alleles there.

    Attributes
    ----------
    sites : rsIDs in the order of each allele's letters
    alleles : name to (letters, function); the first one is the reference
    """

    sites: tuple[str, ...]
    alleles: MappingProxyType[str, tuple[str, str]]


def _panel(sites: str, **alleles: tuple[str, str]) -> GenePanel:
    named = {name.replace("s", "*", 1): value for name, value in alleles.items()}
    return GenePanel(sites=tuple(sites.split()), alleles=MappingProxyType(named))


PANELS = MappingProxyType(
    {
        "CYP2C19": _panel(
            "rs4244285 rs4986893 rs28399504 rs12248560",
            s1=("GGAC", NORMAL), s2=("AGAC", NONE), s3=("GAAC", NONE), s4=("GGGY", NONE),
            s17=("GGAT", INCREASED),
        ),
        "CYP2C9": _panel(
            "rs1799853 rs1057910 rs72558187",
            s1=("CAT", NORMAL), s2=("TAT", DECREASED), s3=("CCT", NONE), s13=("CAC", NONE),
        ),
        "TPMT": _panel(
            "rs1800462 rs1800460 rs1142345",
            s1=("CCT", NORMAL), s2=("GCT", NONE), s3A=("CTC", NONE), s3B=("CTT", NONE),
            s3C=("CCC", NONE),
        ),
        "NUDT15": _panel("rs116855232", s1=("C", NORMAL), s3=("T", NONE)),
        "CYP3A5": _panel(
            "rs776746 rs10264272", s1=("TC", NORMAL), s3=("CC", NONE), s6=("TT", NONE)
        ),
        "SLCO1B1": _panel("rs4149056", s1=("T", NORMAL), s5=("C", NONE)),
        "DPYD": GenePanel(
            sites=("rs3918290", "rs55886062", "rs67376798", "rs75017182"),
            alleles=MappingProxyType(
                {
                    "Reference": ("CATG", NORMAL),
                    "c.1905+1G>A (*2A)": ("TATG", NONE),
                    "c.1679T>G (*13)": ("CCTG", NONE),
                    "c.2846A>T": ("CAAG", DECREASED),
                    "c.1129-5923C>G (HapB3)": ("CATC", DECREASED),
                }
            ),
        ),
    }
)  # fmt: skip

BASES = MappingProxyType(
    {"A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT",
     "K": "GT", "M": "AC"}
)  # fmt: skip
"""IUPAC codes: the bases a letter allows."""

CYP2D6_ACTIVITY: MappingProxyType[str, float] = MappingProxyType(
    dict.fromkeys(["*1", "*2", "*27", "*33", "*34", "*35", "*39", "*45", "*46", "*48", "*53"], 1.0)
    | dict.fromkeys(["*14", "*17", "*29", "*49", "*50", "*54", "*55", "*59"], 0.5)
    | dict.fromkeys(["*9", "*10", "*32", "*41", "*52", "*91", "*132"], 0.25)
    | dict.fromkeys(
        [
            "*3",
            "*4",
            "*5",
            "*6",
            "*7",
            "*8",
            "*11",
            "*12",
            "*13",
            "*15",
            "*18",
            "*19",
            "*20",
            "*21",
            "*31",
            "*36",
            "*38",
            "*40",
            "*42",
            "*44",
            "*47",
            "*51",
            "*56",
            "*60",
            "*62",
            "*68",
            "*69",
            "*92",
            "*96",
            "*99",
            "*143",
            "*144",
            "*156",
            "*161",
        ],
        0.0,
    )
)
"""Activity values of CYP2D6 alleles; with one that is not here the result is indeterminate."""

FUNCTION_ACTIVITY = MappingProxyType({NORMAL: 1.0, DECREASED: 0.5, NONE: 0.0})
"""For CYP2C9 and DPYD, whose phenotype is a sum."""
