"""What is known of an image besides its pixels: labels and masks; several data roots; crops of one image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import equal, picture, run_on, run_test, run_train, train_options, weights, write
from PIL import Image

from data import create_dataset
from models import create_model
from util.errors import UsageError


def loader(*argv):
    return create_dataset(train_options("--dataset_mode", "single", *argv))


@pytest.fixture
def classes(tmp_path):
    """`classes/train/{blue,red}` with two images each, and one in each to test."""
    for phase, count in (("train", 4), ("test", 2)):
        for i in range(count):
            write(tmp_path / "classes" / phase / ("blue", "red")[i % 2] / f"{i}.png", picture(seed=i))
    return "classes"


def labels_of(loader):
    return {Path(path).name: label.tolist() for batch in loader
            for path, label in zip(batch["A_paths"], batch["A_label"], strict=True)}


def test_folders_are_classes(classes):
    found = loader("--dataroot", classes, "--labels", "folders")
    assert found.dataset.opt.attributes == ["blue", "red"]
    assert found.dataset.opt.exclusive
    assert labels_of(found) == {"0.png": [1, 0], "1.png": [0, 1], "2.png": [1, 0], "3.png": [0, 1]}
    found = loader("--dataroot", classes, "--labels", "folders", "--attributes", "red,blue")
    assert labels_of(found) == {"0.png": [0, 1], "1.png": [1, 0], "2.png": [0, 1], "3.png": [1, 0]}
    with pytest.raises(UsageError, match="--attributes red leaves out the images of blue"):
        loader("--dataroot", classes, "--labels", "folders", "--attributes", "red")


def test_a_table_of_attributes_or_of_classes(classes):
    Path("a.csv").write_text("file,smiles,old\nblue/0.png,1,-1\n1.png,0,1\n2.png,1,1\n3.png,0,0\n")
    found = loader("--dataroot", classes, "--labels", "a.csv", "--attributes", "old,smiles")
    assert not found.dataset.opt.exclusive
    assert labels_of(found) == {"0.png": [0, 1], "1.png": [1, 0], "2.png": [1, 1], "3.png": [0, 0]}
    Path("s.csv").write_text(Path("a.csv").read_text().replace(",", ";"))
    same = loader("--dataroot", classes, "--labels", "s.csv", "--attributes", "old, smiles")
    assert labels_of(same) == labels_of(found)
    Path("c.csv").write_text("file,hair\n0.png,dark\n1.png,light\n2.png,dark\n3.png,red\n")
    found = loader("--dataroot", classes, "--labels", "c.csv")
    assert found.dataset.opt.exclusive
    assert found.dataset.opt.attributes == ["dark", "light", "red"]


@pytest.mark.parametrize(("text", "argv", "message"), [
    ("file,a\n0.png,1\n1.png,0\n2.png,1\n", (), "--labels t.csv has no entry for "),
    ("file,a\n0.png,1\n1.png,0\n2.png,1\n3.png,0\n", ("--attributes", "b"),
     "Unknown attribute that any image has 'b'. Known: a"),
    ("file,a,b\n0.png,1,0\n1.png,0,0\n2.png,1,0\n3.png,0,0\n", ("--attributes", "a,b"),
     "Unknown attribute that any image has 'b'. Known: a"),
    ("file,a,b\n0.png,1,yes\n", (), "t.csv, line 2: 2 values of 0, 1 or -1 should follow the file name, not '1, yes'"),
    ("file,a,b\n0.png,1\n", (), "t.csv, line 2"),
    ("file\n0.png\n", (), "needs a header"),
    ("", (), "needs a header"),
    (b"\xff\xfe\x00", (), "is no text in UTF-8"),
    ("file,a,a\n0.png,1,0\n", (), "needs a header of different names"),
    ("file|a|b\n0.png|1|0\n", (), "it begins 'file|a|b'"),
    ('file,a\n"0.png,1\n', (), "is no CSV"),
    ("file,a\n0.png,1\n0.png,0\n", (), "t.csv, line 3: 0.png is there again, with another label"),
    ('file,"a,b",c\n0.png,1,0\n1.png,0,1\n2.png,1,0\n3.png,0,0\n', (), "'a,b' can't be the name of an attribute"),
    ("file,a b,a/b\n0.png,1,0\n1.png,0,1\n2.png,1,0\n3.png,0,0\n", (), "give files of one name"),
    ("file,hair\n0.png,x\n1.png,\n", (), "line 3: a class should follow the file name"),
])
def test_a_wrong_table_is_one_line(classes, text, argv, message):
    Path("t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as error:
        loader("--dataroot", classes, "--labels", "t.csv", *argv)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_labels_without_a_table_or_folders(classes, domains):
    with pytest.raises(UsageError, match=r"none.csv can't be read .No such file or directory.; `folders`"):
        loader("--dataroot", classes, "--labels", "none.csv")
    with pytest.raises(UsageError, match=r"has no entry for .*images of a class belong into a folder of its name"):
        loader("--dataroot", domains, "--labels", "folders")
    with pytest.raises(UsageError, match="needs labels"):
        run_train("--model", "stargan", "--dataroot", domains, "--labels", "", "--netG", "stargan_1blocks")


def test_each_input_counts_as_a_step_of_a_star(classes):
    """Also in a loop of one's own, with one domain in either direction."""
    argv = ("--model", "stargan", "--netG", "stargan_1blocks", "--n_layers_D", "2", "--dataroot", classes)
    opt = train_options(*argv, "--n_critic", "2", "--direction", "BtoA", "--batch_size", "1")
    batches = list(create_dataset(opt))
    model = create_model(opt)
    model.setup(opt)
    moved = []
    for batch in batches:
        before = next(model.netG.parameters()).clone()
        model.set_input(batch)
        model.optimize_parameters()
        moved.append(not torch.equal(before, next(model.netG.parameters())))
    assert moved == [True, False, True, False]


def test_images_too_small_for_the_layers_of_a_star_are_one_line(classes):
    with pytest.raises(UsageError, match="needs images of at least 128x128, not 64x64"):
        run_train("--model", "stargan", "--netG", "stargan_1blocks", "--n_layers_D", "7", "--dataroot", classes,
                  "--preprocess", "none")


def test_a_star_of_attributes(classes):
    """Of attributes that exclude each other each image gets each; of others, each is turned on or off."""
    star = ("--model", "stargan", "--netG", "stargan_1blocks", "--n_layers_D", "2", "--batch_size", "2")
    run_train(*star, "--dataroot", classes)
    assert run_test("--name", "experiment_name", "--dataroot", f"{classes}/test/red") == 0
    images = Path("results/experiment_name/test_latest/images")
    assert {path.name for path in images.glob("*")} == {"1_real_A.png", "1_fake_blue.png", "1_fake_red.png"}
    # At the size of the training, which is not the model's default.
    assert np.array_equal(Image.open(images / "1_real_A.png"), Image.open(f"{classes}/test/red/1.png"))
    page = (images.parent / "index.html").read_text()
    assert "A to A" not in page
    assert run_test("--name", "experiment_name", "--dataroot", f"{classes}/test/red", "--asked", "red") == 0
    assert {path.name for path in images.glob("*")} == {"1_real_A.png", "1_fake_red.png"}
    with pytest.raises(UsageError, match="Unknown attribute of this run 'rde'. Did you mean 'red'"):
        run_test("--name", "experiment_name", "--dataroot", classes, "--asked", "rde")
    Path("a.csv").write_text("file,smiles,old man\n0.png,1,-1\n1.png,0,1\n2.png,1,1\n3.png,0,0\n")
    model = run_train(*star, "--dataroot", classes, "--labels", "a.csv")
    model.label_A = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert model.asked(torch.tensor([0, 0])).tolist() == [[0, 0], [1, 1]]
    assert run_test("--name", "experiment_name", "--dataroot", classes) == 0
    assert len(list(images.rglob("*_fake_old_man.png"))) == 2


NCE = ("--netG", "resnet_1blocks_blurpool", "--nce_layers", "4,8,12", "--num_patches", "64", "--netF_nc", "8")


@pytest.fixture
def masked(domains, strips):
    """Masks of both data roots: the left half."""
    half = np.zeros((64, 64, 1), np.uint8)
    half[:, :32] = 255
    for root in (domains, strips):
        for path in Path(root).rglob("*.png"):
            write(Path("masks") / root / path.relative_to(root), half)
    return "masks"


@pytest.mark.parametrize(("model", "root"), [("cycle_gan", "domains"), ("pix2pix", "strips"), ("discogan", "domains"),
                                             ("cut", "domains"), ("dcl_gan", "domains"), ("santa", "domains")])
def test_only_what_is_inside_the_mask_is_translated(model, root, masked):
    more = {"discogan": ("--netG", "dcgan", "--netD", "dcgan"), "santa": ("--netG", "santa_2blocks"), "cut": NCE,
            "dcl_gan": NCE}.get(model, ())
    argv = ("--model", model, "--dataroot", root, "--masks", f"masks/{root}", "--val_freq", "0", "--preprocess", "none",
            *more)
    trained = run_train(*argv)
    for domain in "A" if model in ("pix2pix", "cut", "santa") else "AB":
        mask, real = getattr(trained, f"mask_{domain}"), getattr(trained, f"real_{domain}")
        fake = getattr(trained, f"fake_{'AB'.replace(domain, '')}")
        assert mask.mean() == 0.5
        assert torch.equal(fake * (1 - mask), real * (1 - mask))
        assert not torch.equal(fake * mask, real * mask)
    assert run_test("--name", "experiment_name", "--dataroot", f"{root}/{'testA' if root == 'domains' else 'test'}",
                    "--masks", f"masks/{root}", "--preprocess", "none") == 0
    images = Path("results/experiment_name/test_latest/images")
    for path in images.glob("*_fake.png"):
        real, fake = (np.asarray(Image.open(images / path.name.replace("_fake", kind))) for kind in ("_real", "_fake"))
        outside = np.s_[:, 32:] if root == "domains" else np.s_[:, 64:]
        assert np.array_equal(real[outside], fake[outside])
        assert not np.array_equal(real, fake)


def test_in_the_other_direction_masks_are_those_of_the_other_images(masked):
    root = Path("pairs")
    for path in Path("domains").rglob("1.png"):
        (root / path.parent.name).mkdir(parents=True, exist_ok=True)
        (root / path.parent.name / path.name).write_bytes(path.read_bytes())
    argv = ("--model", "pix2pix", "--dataroot", "pairs", "--direction", "BtoA", "--masks", "masks/domains")
    trained = run_train(*argv, "--val_freq", "0", "--preprocess", "none")
    assert torch.equal(trained.fake_B * (1 - trained.mask_A), trained.real_A * (1 - trained.mask_A))


def test_a_loss_is_the_mean_over_the_mask():
    from networks.masking import inside, within

    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :1] = 1
    a, b = torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4)
    whole = (inside(mask, a, b) - b).abs().mean()
    torch.testing.assert_close(within(mask, whole), (a - b).abs()[..., :1].mean())


def test_masks_follow_the_geometry_and_a_run_with_them_resumes(masked):
    argv = ("--model", "cycle_gan", "--dataroot", "domains", "--masks", "masks/domains", "--val_freq", "0")
    for batch in create_dataset(train_options(*argv)):
        left, right = batch["A_mask"][..., :20].mean(), batch["A_mask"][..., -20:].mean()
        assert {left.item(), right.item()} == {0.0, 1.0}  # cropped, and flipped or not
    whole = run_train(*argv, "--n_epochs", "2", "--name", "whole")
    run_train(*argv, "--n_epochs", "1", "--name", "parts")
    assert equal(weights(whole), weights(run_on("--name", "parts", "--n_epochs", "2")))


def test_masks_that_do_not_fit_are_one_line(masked, domains, strips, capsys):
    with pytest.raises(UsageError, match=r"none of the 5 images has one; that of .* would be .*trainA/0.png"):
        create_dataset(train_options("--dataroot", domains, "--masks", "masks/strips"))
    with pytest.raises(UsageError, match="--masks keeps the input outside, so --input_nc 1 and --output_nc 3"):
        train_options("--dataroot", domains, "--masks", "masks/domains", "--input_nc", "1")
    with pytest.raises(UsageError, match="--masks nowhere: nowhere is not a folder"):
        create_dataset(train_options("--dataroot", domains, "--masks", "nowhere"))
    with pytest.raises(UsageError, match="--model template does not translate inside masks"):
        run_train("--model", "template", "--dataroot", strips, "--masks", "masks/strips")
    Path("masks/domains/trainA/1.png").unlink()
    create_dataset(train_options("--dataroot", domains, "--masks", "masks/domains"))
    assert "1 of 5 images have no mask" in capsys.readouterr().err


def test_images_of_several_data_roots(tmp_path, domains, strips):
    for i in range(4):
        write(tmp_path / "more" / "trainA" / f"{i}.png", picture(seed=50 + i))
    dataset = create_dataset(train_options("--dataroot", domains, "--more_data", "more")).dataset
    assert len(dataset.paths_A) == 7
    assert len(dataset.paths_B) == 2
    for i in range(2):
        write(tmp_path / "two" / "train" / f"{i}.png", np.concatenate([picture(seed=i), picture(seed=i)], 1))
    opt = train_options("--model", "pix2pix", "--dataroot", strips, "--more_data", "two")
    assert len(create_dataset(opt)) == 5
    for root, seed in (("p", 0), ("q", 9)):
        for domain in "AB":
            write(tmp_path / root / f"train{domain}" / "0.png", picture(seed=seed))
    pairs = create_dataset(train_options("--model", "pix2pix", "--dataroot", "p", "--more_data", "q")).dataset.pairs
    assert [[Path(path).parts[-3] for path in pair] for pair in pairs] == [["p", "p"], ["q", "q"]]
    with pytest.raises(UsageError, match="--more_data p names a folder twice, or that of --dataroot"):
        create_dataset(train_options("--dataroot", "p", "--more_data", "p"))
    with pytest.raises(UsageError, match="--more_data nowhere has no folder like those of --dataroot"):
        create_dataset(train_options("--dataroot", domains, "--more_data", "nowhere"))


def test_several_crops_of_each_image(tmp_path):
    for i in range(2):
        write(tmp_path / "large" / "trainA" / f"{i}.png", picture(200, 150, seed=i))
        write(tmp_path / "large" / "trainB" / f"{i}.png", picture(200, 150, seed=i + 5))
    argv = ("--dataroot", "large", "--preprocess", "crop", "--crops", "5", "--val_freq", "0")
    found = create_dataset(train_options(*argv))
    batches = list(found)
    assert len(found) == len(batches) == 10
    assert sorted(Path(batch["A_paths"][0]).name for batch in batches) == ["0.png"] * 5 + ["1.png"] * 5
    assert len({batch["A"].sum().item() for batch in batches}) == 10
    whole = run_train(*argv, "--n_epochs", "2", "--name", "whole")
    run_train(*argv, "--n_epochs", "1", "--name", "parts")
    assert equal(weights(whole), weights(run_on("--name", "parts", "--n_epochs", "2")))


@pytest.mark.slow
def test_digits_get_the_asked_colour_and_stay_the_same_digit(tmp_path):
    """Over 95 percent, by a classifier of the digit and the strongest channel, on digits never trained on."""
    sklearn = pytest.importorskip("sklearn.datasets")
    from sklearn.svm import SVC

    digits, colours = sklearn.load_digits(), {"red": (220, 40, 40), "green": (40, 170, 70), "blue": (50, 80, 220)}
    for i, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        name = list(colours)[i % 3]
        ink = np.asarray(Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((32, 32), Image.BICUBIC)) / 255
        write(tmp_path / "digits" / ("test" if i >= 1500 else "train") / name / f"{i}_{digit}.png",
              np.rint(ink[:, :, None] * np.array(colours[name])).astype(np.uint8))
    run_train("--model", "stargan", "--dataroot", "digits", "--netG", "stargan_2blocks", "--ngf", "16", "--ndf", "16",
              "--n_layers_D", "3", "--load_size", "32", "--crop_size", "32", "--no_flip", "--lr", "0.001", "--n_critic",
              "1", "--lambda_identity", "10", "--n_epochs", "2", "--n_epochs_decay", "2", "--batch_size", "16",
              "--val_freq", "0", "--no_html", "--print_freq", "5000")
    assert run_test("--name", "experiment_name", "--dataroot", "digits", "--preprocess", "none") == 0

    def read(path):
        pixels = np.asarray(Image.open(path).convert("RGB").resize((8, 8), Image.BOX)).astype(float)
        return pixels.max(2).ravel() / pixels.max(), list(colours)[int(pixels.reshape(-1, 3).sum(0).argmax())]

    paths = sorted((tmp_path / "digits" / "train").rglob("*.png"))
    classifier = SVC(gamma=0.3, C=10).fit([read(path)[0] for path in paths], [path.stem[-1] for path in paths])
    made = sorted(Path("results/experiment_name/test_latest/images").rglob("*_fake_*.png"))
    right = []
    for path in made:
        stem, asked = path.stem.split("_fake_")
        shape, colour = read(path)
        right.append(colour == asked and classifier.predict([shape])[0] == stem[-1])
    assert len(made) == 3 * 297
    assert np.mean(right) > 0.95
