"""OFASys' own calls (its README, tutorial and scripts) with nothing changed but the import."""

from pathlib import Path
from typing import Any, cast

import pytest
from api_worlds import QUICK, SMALL, picture, tiny
from PIL import Image

from ofasys_lite import OFASys, Prediction, Task, Trainer, fit
from ofasys_lite.api.ofasys import Output
from ofasys_lite.errors import CardError, CheckpointError, DataError, InstructionError, OfasysError
from ofasys_lite.preprocess.base import Context
from ofasys_lite.preprocess.image import ImagePreprocess

CAPTION = "[IMAGE:img] what does the image describe? -> [TEXT:cap]"
GROUNDING = '[IMAGE:img] which region does the text " [TEXT:cap] " describe? -> [BOX:patch_boxes]'
REGION = "[IMAGE:img] what does the region describe? region: [BOX:region_coord] -> [TEXT:cap]"
SUMMARY = 'what is the summary of article " [TEXT:src] "? -> [TEXT:tgt]'
TABLE = 'structured knowledge: " [STRUCT:database,uncased] "  . how to describe the tripleset ? -> [TEXT:tgt]'
SQL = '" [TEXT:src] " ; structured knowledge: " [STRUCT:database,max_length=876] " . generating sql code. -> [TEXT:tgt]'
SINGERS = [["concert_singer"], ["singer", "singer_id , name , country"], ["concert", "concert_id , year"]]


def _rows(**columns: Any) -> list[dict[str, Any]]:
    return [columns] * 12


@pytest.fixture(scope="module")
def multitask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model over OFASys' lines, saved in a folder that is called as OFASys calls its checkpoint."""
    cat = picture("red")
    tasks = [
        Task("caption", CAPTION, data=_rows(img=cat, cap="a red square")),
        Task("refcoco", GROUNDING, data=_rows(img=cat, cap="hand", patch_boxes="1,2,9,9")),
        Task("region", REGION, data=_rows(img=cat, region_coord="1,2,9,9", cap="hand")),
        Task("gigaword", SUMMARY, data=_rows(src="a long text", tgt="short")),
        Task("dart", TABLE, data=_rows(database=[["Atlanta", "COUNTRY", "United States"]], tgt="it lies there")),
        Task("spider", SQL, data=_rows(src="who?", database=SINGERS, tgt="select name from singer")),
    ]
    folder = tmp_path_factory.mktemp("ofasys")
    fit(tiny(), tasks, steps=2, folder=folder / "run", **QUICK, **SMALL).save_pretrained(folder / "multitask.pt")
    return folder


@pytest.fixture
def ofasys(multitask: Path, monkeypatch: pytest.MonkeyPatch) -> OFASys:
    monkeypatch.chdir(multitask)
    picture("blue").save("photo.jpg")
    return OFASys.from_pretrained("multitask.pt")


def test_two_tasks_are_trained_as_in_its_readme() -> None:
    dataset1 = _rows(image_url=picture("red"), caption="a red square")
    dataset2 = _rows(sentence="the cat sat on the mat")
    model = tiny()  # as GeneralistModel(), but small
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
    trainer = Trainer(steps=1, **QUICK, **SMALL)
    trainer.fit(model=model, tasks=[task1, task2])
    assert model.tasks == ("caption", "text_infilling")
    assert model.run == Path("runs/caption-text_infilling")


def test_an_image_is_described(ofasys: OFASys, capsys: pytest.CaptureFixture[str]) -> None:
    instruction = "[IMAGE:img] what does the image describe? -> [TEXT:cap]"
    data = {"img": "./photo.jpg"}
    output = ofasys.inference(instruction, data=data, max_len=8)
    print(output.text)
    assert capsys.readouterr().out == f"{output.value}\n"
    assert isinstance(output, Prediction)


def test_regions_are_found_and_drawn_with_and_without_an_ending(ofasys: OFASys) -> None:
    data = [{"img": "photo.jpg", "cap": "hand"}, {"img": "photo.jpg", "cap": "taxi"}]
    output = ofasys.inference(GROUNDING, data=data)
    for i, out in enumerate(output):
        out.save_box(f"{i}.jpg")
        out.save_box(f"{i}")
    assert all(Path(f"{i}{ending}").exists() for i in range(2) for ending in (".jpg", ".png"))


def test_a_region_is_described(ofasys: OFASys) -> None:
    data = {"img": "photo.jpg", "region_coord": "2.7,6.07,10.74,12.47"}
    assert isinstance(ofasys.inference(REGION, data=data, max_len=8).text, str)


def test_text_tables_and_databases_are_read(ofasys: OFASys) -> None:
    assert isinstance(ofasys.inference(SUMMARY, data={"src": "poland 's main"}, max_len=8).text, str)
    database = [["Atlanta", "OFFICIAL_POPULATION", "5,457,831"], ["[TABLECONTEXT]", "METROPOLITAN_AREA", "Atlanta"]]
    assert isinstance(ofasys.inference(TABLE, data={"database": database}, beam_size=1, max_len=8).text, str)
    data = [{"src": "all names?", "database": SINGERS}, {"src": "how many?", "database": SINGERS}]
    output = ofasys.inference(SQL, data=data, max_len=8)
    assert "\n".join(o.text for o in output).count("\n") >= 1


def test_candidates_are_given_as_a_closed_set(ofasys: OFASys) -> None:
    data = {"img": "photo.jpg"}
    assert ofasys.inference(CAPTION, data=data, beam_size=1, closed_set=["a cat", "a dog"]).text in ("a cat", "a dog")


def test_tasks_are_called_by_name_and_lines_may_come_as_a_list(ofasys: OFASys) -> None:
    by_name = ofasys.inference("caption", data={"img": "photo.jpg"}, max_len=8)
    listed = ofasys.inference([CAPTION, SUMMARY], data=[{"img": "photo.jpg"}, {"src": "x"}], max_len=8, batch_size=2)
    assert listed[0] == by_name
    assert [one.task for one in listed] == ["caption", "gigaword"]


def test_several_best_outputs_come_as_a_list(ofasys: OFASys) -> None:
    best = ofasys.inference(SUMMARY, data={"src": "x"}, beam_size=3, return_n_best=-1, max_len=5)
    assert len(best) == 3
    assert best[0].score >= best[1].score >= best[2].score
    many = ofasys.inference(SUMMARY, data=[{"src": "x"}, {"src": "y"}], beam_size=2, return_n_best=2, max_len=5)
    assert [len(each) for each in many] == [2, 2]


def test_marks_of_the_first_readme_are_left_out(ofasys: OFASys) -> None:
    old = '<BOS> what is the summary of article " [TEXT:src] "? <EOS> -> <BOS> [TEXT:tgt] <EOS>'
    with pytest.warns(FutureWarning, match="<BOS>"):
        assert ofasys.inference(old, data={"src": "x"}, max_len=5).task == "gigaword"


def test_a_model_moves_and_loads_as_in_its_tutorial(ofasys: OFASys) -> None:
    assert ofasys.cpu() is ofasys
    assert isinstance(OFASys.from_pretrained("multitask.pt", task_name="caption", initialize_all_tasks=True), OFASys)
    with pytest.raises(CheckpointError, match="did you mean `caption`"):
        OFASys.from_pretrained("multitask.pt", task_name="captoin")
    with pytest.raises(CheckpointError, match="precision='bf16'"):
        ofasys.half()


ADDRESS = "http://ofasys.oss-cn-zhangjiakou.aliyuncs.com/model_hub/multitask_10k.pt"
IMAGE = 'what is the complete image? caption: [TEXT:text]"? -> [IMAGE,preprocess=image_vqgan,adaptor=image_vqgan]'
VIDEO = "[VIDEO:video] what does the video describe? -> [TEXT:cap]"
SPEECH = "[AUDIO:wav] what is the text corresponding to the voice? -> [TEXT:text,preprocess=text_phone]"
UNSUPPORTED: dict[str, tuple[Any, type[OfasysError], str]] = {
    "address": (lambda m: OFASys.from_pretrained(ADDRESS), CheckpointError, "save_pretrained"),
    "checkpoint": (lambda m: OFASys.from_pretrained("other.pt"), CheckpointError, "save_pretrained"),
    "image out": (
        lambda m: m.inference(IMAGE, data={"text": "a city"}),
        CheckpointError,
        "no learned task writes codes",
    ),
    "video": (lambda m: m.inference(VIDEO, data={"video": "a.mp4"}), CheckpointError, "no adapter for VIDEO"),
    "speech": (lambda m: m.inference(SPEECH, data={"wav": "a.flac"}), CheckpointError, "no adapter for AUDIO"),
    "oss": (
        lambda m: m.inference(CAPTION, data={"img": "oss://a/b.jpg"}),
        DataError,
        "cannot read image oss://a/b.jpg",
    ),
    "cache": (lambda m: m.inference(CAPTION, data={"img": 1}, use_cache=True), CardError, "leave it out"),
    "unknown": (lambda m: m.inference(CAPTION, data={}, beamsize=2), CardError, "did you mean `beam_size`"),
    "batch": (lambda m: m.inference(CAPTION, data={}, batch_size=0), CardError, "a whole number from 1"),
    "data": (lambda m: m.inference(CAPTION, data="photo.jpg"), DataError, "data is str"),
    "column": (lambda m: m.inference(CAPTION, data={"image": "photo.jpg"}), DataError, "no column `img`"),
    "pairs": (lambda m: m.inference([CAPTION], data=[{}, {}]), DataError, "1 instructions for 2 rows"),
    "line": (lambda m: m.inference("[IMGE:img] -> [TEXT:a]", data={}), InstructionError, "did you mean `IMAGE`"),
    "trainer": (lambda m: Trainer.from_yaml("t.yaml"), CardError, "Trainer(lr=1e-3, steps=1000)"),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_what_is_not_supported_says_what_to_use_instead(kind: str, ofasys: OFASys) -> None:
    action, error, words = UNSUPPORTED[kind]
    with pytest.raises(error) as raised:
        action(ofasys)
    assert words in str(raised.value)


@pytest.mark.parametrize("name", ["save_image", "save_audio", "save_video", "save_motion"])
def test_outputs_say_what_they_hold_instead_of_pictures_sound_and_motion(name: str) -> None:
    output = Output("caption", "0", {"cap": "a cat"}, 0.0, {"cap": "TEXT"})
    with pytest.raises(DataError, match=r"cannot save 0\.x: this prediction holds no .*, but cap \(TEXT\)") as raised:
        getattr(output, name)("0.x")
    assert "save" in raised.value.help


def test_a_generated_picture_is_saved(tmp_path: Path) -> None:
    tools = {"img": ImagePreprocess(Context({}, cast(Any, None)))}
    output = Output("draw", "0", {"img": Image.new("RGB", (4, 3))}, 0.0, {"img": "IMAGE"}, tools=tools)
    with Image.open(output.save_image(tmp_path / "a")) as image:
        assert image.size == (4, 3)
