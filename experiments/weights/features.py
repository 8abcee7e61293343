"""Write the features that the tests compare published weights with.

python experiments/weights/features.py RUN... > tests/inference/weights_features.json
"""

import json
import runpy
import sys
from pathlib import Path

TEST = Path(__file__).parents[2] / "tests/inference/test_weights.py"

if __name__ == "__main__":
    features = runpy.run_path(str(TEST))["features"]
    found = {
        Path(run).name: {
            layer: [[round(value, 4) for value in frame] for frame in frames.tolist()]
            for layer, frames in features(run).items()
        }
        for run in sys.argv[1:]
    }
    print(json.dumps(found, indent=1))
