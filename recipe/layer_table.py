import dataclasses
@dataclasses.dataclass(frozen=True)
class LayerRow:
    name: str
    output_shape: tuple[int,...]
    params: int
