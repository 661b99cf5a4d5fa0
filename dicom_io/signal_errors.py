"""What can be wrong with a recording of signals: its file, its header, its samples, its clock.

::

    DicomIoError
    └── SignalError                    a recording cannot be read, or its samples cannot be trusted
        ├── SignalFormatError            the file is of no kind that is read here, or broken
        ├── SignalLimitError             longer, wider or larger than allowed
        ├── SignalFieldError             a field of the header is absent or impossible
        │   ├── SamplingRateError          not a finite rate within the limits
        │   ├── SignalUnitError            no unit, or one that is not known
        │   ├── CalibrationError           gain or baseline absent, zero or not finite
        │   ├── SignalNameError            a channel without a name, or two of one name
        │   └── SignalPathError            a file name that leaves the record's folder
        ├── ChecksumError                the samples are not those that the header was made for
        ├── SampleCountError             fewer or more samples than the header says
        └── SignalClockError             time stamps go back, repeat or jump

Messages name fields, values and channel names, never a name, a birth date or a patient id.
"""

from __future__ import annotations

from dicom_io.errors import DicomIoError


class SignalError(DicomIoError):
    """A recording cannot be read, or its samples cannot be trusted; ``record`` is its file name."""

    code = "signal"

    def __init__(self, *, record: str, problem: str) -> None:
        self.record, self.problem = record, problem
        super().__init__(f"{record}: {problem}")


class SignalFormatError(SignalError):
    """The file is of no kind that is read here, or its structure makes no sense."""

    code = "signal_format"


class SignalLimitError(SignalError):
    """The recording is longer, wider or larger than `SignalLimits` allows."""

    code = "signal_limit"

    def __init__(self, *, record: str, limit: str, allowed: float, found: float) -> None:
        self.limit, self.allowed, self.found = limit, allowed, found
        super().__init__(
            record=record,
            problem=f"{limit} allows {allowed:g} and {found:g} are there; cut the recording",
        )


class SignalFieldError(SignalError):
    """A field of the header is absent or says something impossible.

    ``channel`` is the channel's name or number, or "" where the field belongs to the record.
    """

    code = "signal_field"

    def __init__(
        self, *, record: str, channel: str, field: str, value: str, allowed: str, do: str
    ) -> None:
        self.channel, self.field, self.value = channel, field, value
        self.allowed, self.do = allowed, do
        where = f"channel {channel}: " if channel else ""
        said = f"is {value!r}" if value else "is absent"
        super().__init__(record=record, problem=f"{where}{field} {said}; allowed: {allowed}; {do}")


class SamplingRateError(SignalFieldError):
    """The sampling rate is not a finite number of Hz within the limits."""

    code = "sampling_rate"


class SignalUnitError(SignalFieldError):
    """A channel has no unit, or one that is not known; a unit is never guessed."""

    code = "signal_unit"


class CalibrationError(SignalFieldError):
    """Gain or baseline is absent, zero or not finite; no default is assumed."""

    code = "calibration"


class SignalNameError(SignalFieldError):
    """A channel has no name, or two channels have one."""

    code = "signal_name"


class SignalPathError(SignalFieldError):
    """A header names a file outside its own folder."""

    code = "signal_path"


class ChecksumError(SignalError):
    """The samples of ``channel`` are not those that the header was made for."""

    code = "signal_checksum"

    def __init__(self, *, record: str, channel: str, expected: int, found: int) -> None:
        self.channel, self.expected, self.found = channel, expected, found
        super().__init__(
            record=record,
            problem=f"channel {channel}: the header's checksum is {expected} and the samples' is "
            f"{found}; header and signal file do not belong together: send both again",
        )


class SampleCountError(SignalError):
    """``channel`` has fewer or more samples than the header says."""

    code = "sample_count"

    def __init__(self, *, record: str, channel: str, expected: int, found: int) -> None:
        self.channel, self.expected, self.found = channel, expected, found
        super().__init__(
            record=record,
            problem=f"channel {channel}: {expected} samples are said and {found} are there; "
            "send the file again",
        )


class SignalClockError(SignalError):
    """Time stamps go back, repeat or jump at sample ``index``."""

    code = "signal_clock"

    def __init__(self, *, record: str, index: int, expected_s: float, found_s: float) -> None:
        self.index, self.expected_s, self.found_s = index, expected_s, found_s
        super().__init__(
            record=record,
            problem=f"the time stamp at row {index} is {found_s:.6g} s where {expected_s:.6g} s is "
            "due; correct the clock, or cut the recording there",
        )
