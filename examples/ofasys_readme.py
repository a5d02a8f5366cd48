"""The calls of OFASys' README (arXiv 2212.04408) with the import changed, on rows made here.

About 10 seconds on one CPU core: python examples/ofasys_readme.py
"""

from pathlib import Path

from PIL import Image

from ofasys_lite import GeneralistModel, OFASys, Task, Trainer


def main(steps: int = 100, folder: Path = Path("runs/ofasys_readme")) -> OFASys:
    """The model as OFASys' class."""
    square = Image.new("RGB", (32, 32), "red")
    dataset1 = [{"image_url": square, "caption": "a red square"}] * 50
    dataset2 = [{"sentence": sentence} for sentence in ("the cat sat on the mat", "a dog ran home")] * 25

    task1 = Task(
        name="caption",
        instruction="[IMAGE:image_url] what does the image describe? -> [TEXT:caption]",
        micro_batch_size=4,
    )
    task2 = Task(
        name="text_infilling",
        instruction='what is the complete text of " [TEXT:sentence,mask_ratio=0.3] "? -> [TEXT:sentence]',
        micro_batch_size=2,
    )
    task1.add_dataset(dataset1, "train")
    task2.add_dataset(dataset2, "train")
    # OFASys writes GeneralistModel() and Trainer(); these are smaller and shorter
    model = GeneralistModel("tiny", width=64)
    trainer = Trainer(steps=steps, folder=folder, samples_per_step=12, workers=0, pieces=320, lr=3e-3)
    trainer.fit(model=model, tasks=[task1, task2])
    model.save_pretrained(folder / "multitask")

    loaded = OFASys.from_pretrained(folder / "multitask")
    square.save(folder / "square.png")
    instruction = "[IMAGE:img] what does the image describe? -> [TEXT:cap]"
    data = {"img": str(folder / "square.png")}
    output = loaded.inference(instruction, data=data, beam_size=3, max_len=12)
    print(output.text)
    output = loaded.inference(instruction, data=data, closed_set=["a red square", "a dog ran home"])
    print(output.text)
    return loaded


if __name__ == "__main__":
    main()
