"""Metrics against closed forms, scikit-image and independent implementations; files and folders of them."""

import csv
import json
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import pytest
import torch
from conftest import picture, run_test, run_train, write
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from options.train_options import TrainOptions
from util.errors import UsageError
from util.images import ValueRange
from util.metrics import Metric, find_metrics, pretrained
from util.metrics.pair_metrics import l1, psnr, ssim
from util.metrics.scores import CHEAP, Scores, choose
from util.metrics.set_metrics import colours, fid, histograms, kid, patches, swd
from util.plugins import use_plugin_dir


def images(n=4, channels=3, side=32, seed=0):
    made = [torch.from_numpy(picture(side, side, seed + i, channels)).permute(2, 0, 1) for i in range(n)]
    return torch.stack(made) / 255.0


@pytest.mark.parametrize("channels", (1, 3))
def test_psnr_and_ssim_are_those_of_scikit_image(channels):
    a, b = images(channels=channels), images(channels=channels, seed=9)
    for i in range(len(a)):
        x, y = (batch[i].double().permute(1, 2, 0).numpy() for batch in (a, b))
        assert psnr(a, b)[i] == pytest.approx(peak_signal_noise_ratio(y, x, data_range=1.0))
        assert ssim(a, b)[i] == pytest.approx(structural_similarity(y, x, data_range=1.0, channel_axis=2))


def test_closed_forms_of_pairs():
    a, b = torch.zeros(2, 3, 16, 16), torch.full((2, 3, 16, 16), 0.1)
    assert l1(a, b).tolist() == pytest.approx([0.1, 0.1])
    assert psnr(a, b).tolist() == pytest.approx([20, 20])
    assert psnr(a, a).tolist() == [100, 100]
    assert ssim(b, b).tolist() == [1, 1]
    assert ssim(torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4)).shape == (1,)  # smaller than a window
    assert ssim(torch.rand(2, 1, 2, 9), torch.rand(2, 1, 2, 9)).isnan().tolist() == [True, True]  # there is none


def test_colours_are_the_wasserstein_distance_of_values():
    dark, light = torch.full((2, 3, 8, 8), 50 / 255), torch.full((3, 3, 8, 8), 80 / 255)
    assert colours(histograms(dark), histograms(light)) == pytest.approx(30 / 255)
    half = torch.cat((dark, light[:2]))
    assert colours(histograms(half), histograms(light)) == pytest.approx(15 / 255)


def test_swd_is_zero_for_the_same_and_grows_with_noise():
    real = images(6, side=64)
    noisy = [(real + scale * torch.randn(real.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
             for scale in (0.02, 0.2)]
    distances = [swd(patches(x), patches(real)) for x in (real, *noisy)]
    assert distances[0] == 0
    assert distances[0] < distances[1] < distances[2]
    assert swd(patches(real[:3]), patches(real)) > 0  # sets of two sizes


def test_fid_of_gaussians_is_the_closed_form():
    """Of independent normal features: |m - m'|^2 + sum (s - s')^2; samples whitened so that it is exact."""
    def sample(mean, deviations, n=600):
        x = torch.randn(n, len(deviations), dtype=torch.float64, generator=torch.Generator().manual_seed(n))
        x = x - x.mean(0)
        x = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.t())).t())
        return x * torch.tensor(deviations) + mean

    a, b = sample(0.0, [1.0, 2.0, 3.0]), sample(0.5, [2.0, 2.0, 1.0], n=500)
    assert fid(a, b) == pytest.approx(3 * 0.25 + 1 + 0 + 4, abs=1e-9)


@pytest.mark.parametrize(("n", "m"), ((40, 30), (12, 300), (200, 150)))
def test_fid_and_kid_are_those_of_an_independent_implementation(n, m):
    draw = torch.Generator().manual_seed(n)
    a, b = (torch.randn(size, 64, dtype=torch.float64, generator=draw) for size in (n, m))
    b = b * 1.3 + 0.2
    covariances = [np.cov(x.numpy(), rowvar=False) for x in (a, b)]
    root = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).astype(complex)).real.sum()
    difference = (a.mean(0) - b.mean(0)).numpy()
    expected = difference @ difference + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * root
    assert fid(a, b) == pytest.approx(expected, abs=1e-4)

    def k(x, y):
        return (float(x @ y) / 64 + 1) ** 3

    within = [sum(k(x[i], x[j]) for i in range(12) for j in range(12) if i != j) / 132 for x in (a[:12], b[:12])]
    across = sum(k(x, y) for x in a[:12] for y in b[:12]) / 144
    assert kid(a[:12], b[:12]) == pytest.approx(sum(within) - 2 * across, abs=1e-4)


@pytest.mark.parametrize("name", ("fid", "kid"))
def test_fid_and_kid_are_those_of_torch_fidelity(name):
    pytest.importorskip("torch_fidelity", exc_type=ImportError)
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    a, b = (torch.randn(60, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) + i for i in (0, 1))
    if name == "fid":
        statistics = [fid_features_to_statistics(x) for x in (a, b)]
        expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
        assert fid(a, b) == pytest.approx(expected, abs=1e-4)
    else:
        found = kid_features_to_metric(a, b, kid_subsets=1, kid_subset_size=60, kid_kernel="poly", rng_seed=0,
                                       verbose=False)
        assert kid(a, b) == pytest.approx(found["kernel_inception_distance_mean"], abs=1e-4)


class Small(torch.nn.Module):
    """Stands in for Inception: 299x299 uint8 in, four features out."""

    def forward(self, x):
        assert x.dtype == torch.uint8 and x.shape[1:] == (3, 299, 299)
        return (torch.cat((x.float().mean((2, 3)), x.float().std((2, 3))[:, :1]), 1) / 255,)


def test_an_extractor_can_be_passed_in():
    scores = Scores(find_metrics(["fid", "kid"]), torch.device("cpu"), networks={"inception": Small()})
    real, fake = images(6), images(5, seed=20)
    scores.add("fake_B", [f"{i}" for i in range(5)], fake)
    scores.add_reference("fake_B", [f"{i}" for i in range(6)], real)
    figures = scores.figures()
    assert figures["fake_B/fid"].value > 0
    assert figures["fake_B/fid"].n == 5
    scores.clear()  # the features of the real images are kept
    scores.add("fake_B", [f"{i}" for i in range(6)], real)
    assert scores.figures()["fake_B/fid"].value == pytest.approx(0, abs=1e-6)


def test_figures_do_not_depend_on_the_order_of_the_images():
    """As several processes see them: values and intervals, of pairs and of sets."""
    found = []
    for order in ([0, 1, 2, 3, 4, 5], [0, 2, 4, 1, 3, 5]):
        scores = Scores(find_metrics(["l1", "swd", "colours", "kid"]), torch.device("cpu"),
                        networks={"inception": Small()})
        outputs, truths = images(6), images(6, seed=20)
        for i in order:
            scores.add("fake_B", [f"{i}"], outputs[i:i + 1], truths[i:i + 1])
            scores.add_reference("fake_B", [f"{i}"], truths[i:i + 1])
        found.append(scores.figures())
    assert found[0] == found[1]
    assert all(found[0][f"fake_B/{name}"].low >= 0 for name in ("l1", "swd", "colours"))


def test_numbers_that_are_none_end_no_validation():
    scores = Scores(find_metrics(["l1", "psnr", "ssim", "swd", "colours", "fid"]), torch.device("cpu"),
                    networks={"inception": Small()})
    broken = images(3)
    broken[1, 0, 4, 4] = torch.nan
    scores.add("fake_B", ["a", "b", "c"], broken, images(3, seed=9))
    scores.add_reference("fake_B", ["a", "b", "c"], images(3, seed=9))
    figures = scores.figures()
    assert not np.isfinite(figures["fake_B/l1"].value)
    assert np.isfinite(figures["fake_B/colours"].value)
    assert "nan [nan, nan], n = 3" in str(figures["fake_B/ssim"])


def test_perceptual_distance_compares_each_pair():
    scores = Scores(find_metrics(["lpips"]), torch.device("cpu"), networks={"lpips": lambda a, b: (a - b).abs().mean()})
    scores.add("fake_B", ["x", "y"], torch.zeros(2, 1, 8, 8), torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)]))
    assert scores.rows == {"x": {"fake_B/lpips": 0.0}, "y": {"fake_B/lpips": 1.0}}


@pytest.mark.parametrize("error", (OSError, ValueError, UnpicklingError))
def test_weights_that_cannot_be_had_are_one_line(monkeypatch, capsys, error):
    def no_network():
        raise error("name resolution failed")

    monkeypatch.setitem(pretrained.NETWORKS, "inception", pretrained.Pretrained("w.pth", "torch", no_network))
    scores = Scores(find_metrics(["fid", "l1"]), torch.device("cpu"))
    assert [metric.name for metric in scores.metrics] == ["l1"]
    told = capsys.readouterr().err.strip()
    assert len(told.splitlines()) == 1
    assert "fid: left out" in told
    assert "--metric_weights takes a copy of w.pth" in told
    monkeypatch.setitem(pretrained.NETWORKS, "lpips", pretrained.Pretrained("w.pth", "no_such_library", no_network))
    Scores(find_metrics(["lpips"]), torch.device("cpu"))
    assert '".[metrics]"' in capsys.readouterr().err


@pytest.mark.parametrize("given", ("w.pth", "."))
def test_weights_are_found_in_a_file_or_a_folder(tmp_path, monkeypatch, given):
    """By the library's own loading: from where torch's hub looks."""
    torch.save({"weight": torch.full((1,), 7.0)}, tmp_path / "w.pth")

    def load():
        network = torch.nn.Linear(1, 1)
        network.weights = torch.hub.load_state_dict_from_url("https://nowhere.invalid/w.pth")
        return network

    before = torch.hub.get_dir()
    monkeypatch.setitem(pretrained.NETWORKS, "lpips", pretrained.Pretrained("w.pth", "torch", load))
    assert pretrained.is_there("lpips", given)
    assert not pretrained.is_there("lpips", None)
    assert pretrained.load("lpips", given, torch.device("cpu")).weights["weight"] == 7
    assert torch.hub.get_dir() == before
    assert "lpips" in [metric.name for metric in choose(["auto"], given)]
    with pytest.raises(UsageError, match="--metric_weights nowhere is neither of .*w.pth.*, nor a folder"):
        choose(["auto"], "nowhere")


def test_the_interval_holds_the_mean_and_shrinks_with_more_images():
    widths = []
    for n in (10, 160):
        scores = Scores(find_metrics(["l1"]), torch.device("cpu"))
        values = torch.linspace(0, 1, n)
        for i, value in enumerate(values):
            scores.add("fake_B", [str(i)], torch.full((1, 1, 8, 8), float(value)), torch.zeros(1, 1, 8, 8))
        figure = scores.figures()["fake_B/l1"]
        assert figure.low < figure.value < figure.high
        assert figure.value == pytest.approx(0.5)
        assert (figure.n, figure.high - figure.low) == (n, pytest.approx(4 * 0.29 / n ** 0.5, rel=0.25))
        widths.append(figure.high - figure.low)
    assert widths[1] < widths[0] / 2


@pytest.mark.parametrize("values", (ValueRange(), ValueRange("uint16", 100, 5000), ValueRange("float32", -2, 3)))
def test_metrics_see_what_is_written(values):
    tensor = torch.rand(1, 2, 5, 7) * 2.4 - 1.2
    array = values.to_array(tensor[0]).astype(np.float64)
    expected = (array - values.low) / (values.high - values.low)
    assert values.as_written(tensor)[0].permute(1, 2, 0).numpy() == pytest.approx(expected, abs=1e-6)


def test_a_metric_is_one_function_in_one_file(strips):
    Path("brightness_metric.py").write_text(
        "from util.metrics import pair_metric\n\n\n@pair_metric('brightness')\ndef brightness(output, truth):\n"
        "    return (output.mean((1, 2, 3)) - truth.mean((1, 2, 3))).abs()\n")
    shared = ("--model", "pix2pix", "--dataroot", strips, "--plugin_dir", ".")
    run_train(*shared, "--val_split", 0.4, "--metrics", "l1,brightness", "--best_metric", "brightness")
    assert Path("checkpoints/experiment_name/best_net_G.pth").exists()
    assert run_test(*shared, "--metrics", "brightness", "--epoch", "best") == 0
    figures = json.loads(Path("results/experiment_name/test_best/metrics.json").read_text())["figures"]
    assert list(figures) == ["fake_B/brightness"]


def test_a_metric_that_fails_ends_no_training_and_keeps_no_image_from_being_written(strips, capsys):
    Path("broken_metric.py").write_text(
        "from util.metrics import pair_metric\n\n\n@pair_metric('broken')\ndef broken(output, truth):\n"
        "    return output.no_such_thing()\n")
    shared = ("--model", "pix2pix", "--dataroot", strips, "--plugin_dir", ".")
    run_train(*shared, "--val_split", 0.4, "--metrics", "l1,broken")
    assert Path("checkpoints/experiment_name/best_net_G.pth").exists()
    assert run_test(*shared, "--metrics", "broken") == 1
    assert Path("results/experiment_name/test_latest/images/0_fake_B.png").exists()
    told = capsys.readouterr().err
    assert "metric broken is left out: AttributeError, broken_metric.py line 6: " in told
    assert "no metric" not in told


@pytest.mark.parametrize("convert", (float, np.float64, torch.tensor))
def test_a_distance_may_be_any_kind_of_number(convert):
    metric = Metric("mine", lambda a, b: convert(float((a - b).mean())), features=lambda x: x.flatten(1))
    scores = Scores([metric], torch.device("cpu"))
    scores.add("fake_B", ["a", "b"], images(2))
    scores.add_reference("fake_B", ["a", "b"], images(2, seed=9))
    assert all(type(value) in (int, float) for value in scores.figures()["fake_B/mine"])


def test_what_a_metric_does_wrong_is_one_line(capsys):
    Path("bad_metric.py").write_text("def bad(:\n")
    use_plugin_dir(".", "util.metrics")
    with pytest.raises(UsageError, match="'bad' can't be imported: .*syntax"):
        find_metrics(["bad"])
    scores = Scores([Metric("mine", lambda output, truth: (output - truth).mean())], torch.device("cpu"))
    scores.add("fake_B", ["a", "b"], images(2), images(2))
    assert scores.figures() == {}
    assert "metric mine is left out: it must return (N,) values, one for each of 2 images, not ()" in \
        capsys.readouterr().err


def fails_from(count, value):
    """A function that gives a value so many times, and then fails."""
    calls = iter(range(count))

    def function(*args):
        next(calls)
        return value(*args)
    return function


def test_a_metric_that_fails_is_left_out_and_the_others_are_not(capsys):
    pairs, l1 = fails_from(2, lambda a, b: a.mean((1, 2, 3))), find_metrics(["l1"])
    broken = [Metric("pairs", pairs), Metric("features", lambda a, b: 0.0, features=fails_from(3, lambda x: x)),
              Metric("sets", fails_from(0, lambda a, b: 0.0), features=lambda x: x)]
    scores = Scores([*broken, *l1], torch.device("cpu"))
    for i in range(4):
        scores.add("fake_B", [str(i)], images(1, seed=i), images(1, seed=9 + i))
        scores.add_reference("fake_B", [str(i)], images(1, seed=9 + i))
    assert list(scores.figures()) == ["fake_B/l1"]
    assert {key for row in scores.rows.values() for key in row} == {"fake_B/l1"}
    told = capsys.readouterr().err
    for metric in broken:
        assert told.count(f"metric {metric.name} is left out: StopIteration, test_metrics.py line ") == 1
    scores.clear()
    assert not scores.failed
    scores = Scores([Metric("big", lambda a, b: torch.zeros(2**50))], torch.device("cpu"))
    with pytest.raises(RuntimeError, match="memory"):  # which is not the fault of the metric
        scores.add("fake_B", ["a"], images(1), images(1))


def test_an_output_of_another_size_than_its_truth_is_no_pair(capsys):
    scores = Scores(find_metrics(["l1", "colours"]), torch.device("cpu"))
    scores.add("fake_B", ["a", "b"], images(2), images(2, side=16))
    scores.add_reference("fake_B", ["a", "b"], images(2, side=16))
    assert scores.figures().keys() == {"fake_B/colours"}
    assert "fake_B is 32x32 of 3 channels and its truth 16x16 of 3 channels" in capsys.readouterr().err


@pytest.mark.parametrize("option", ("--metrics", "--best_metric"))
def test_an_unknown_metric_is_named_before_anything_happens(option):
    with pytest.raises(UsageError, match="Unknown metric 'psmr'. Did you mean 'psnr'?"):
        TrainOptions().parse(["--dataroot", "x", option, "psmr"])


def test_test_writes_metrics_for_each_image_at_any_batch_size(strips):
    run_train("--model", "pix2pix", "--dataroot", strips)
    found = []
    for size in (1, 2):
        run_test("--model", "pix2pix", "--dataroot", strips, "--metrics", "auto", "--batch_size", size)
        folder = Path("results/experiment_name/test_latest")
        found.append((folder / "metrics.json").read_text())
        rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert json.loads(found[0])["figures"].keys() == {f"fake_B/{name}" for name in CHEAP}
    values = [[float(v) for row in json.loads(text)["images"].values() for v in row.values()] for text in found]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert [row["image"] for row in rows] == ["0", "1", "total"]
    fake, real = (np.asarray(Image.open(folder / "images" / f"1_{kind}_B.png")) / 255.0
                  for kind in ("fake", "real"))
    assert float(rows[1]["fake_B/psnr"]) == pytest.approx(peak_signal_noise_ratio(real, fake, data_range=1.0))
    page = (folder / "index.html").read_text()
    assert page.count('<th data-better') == 1 + 3  # name, l1, psnr, ssim
    assert page.count("<tr data-name") == 2
    run_test("--model", "pix2pix", "--dataroot", strips)  # not scored: no older figures stay beside new images
    assert sorted(path.name for path in folder.iterdir()) == ["images", "images.json", "index.html"]


def test_without_truth_a_test_says_so_and_translates(domains, capsys):
    run_train("--dataroot", domains, "--netG", "resnet_6blocks")
    assert run_test("--dataroot", f"{domains}/testA", "--metrics", "auto") == 0
    assert "sees no true images here" in capsys.readouterr().err


def test_metrics_that_were_asked_for_and_left_out_make_the_exit_code_one(domains, monkeypatch, capsys):
    def no_network():
        raise OSError("name resolution failed")

    run_train("--dataroot", domains, "--netG", "resnet_6blocks")
    monkeypatch.setitem(pretrained.NETWORKS, "inception", pretrained.Pretrained("w.pth", "torch", no_network))
    assert run_test("--model", "cycle_gan", "--dataroot", domains, "--metrics", "swd,fid") == 1
    assert run_test("--model", "cycle_gan", "--dataroot", domains, "--metrics", "swd", "--num_test", "1") == 0
    told = capsys.readouterr().err
    assert "fid: left out" in told
    assert "needs two images of each kind" in told
    assert "no true images" not in told


def test_both_domains_have_figures_and_cycle_errors(domains):
    run_train("--dataroot", domains, "--netG", "resnet_6blocks")
    run_test("--model", "cycle_gan", "--dataroot", domains, "--metrics", "l1,swd")
    figures = json.loads(Path("results/experiment_name/test_latest/metrics.json").read_text())["figures"]
    assert {key: figure["n"] for key, figure in figures.items()} == {
        "rec_A/l1": 3, "rec_B/l1": 2, "fake_B/swd": 3, "fake_A/swd": 2}


def test_two_folders_are_compared(tmp_path, capsys):
    from util.metrics.__main__ import main

    for i in range(3):
        write(tmp_path / "a" / f"{i}.png", picture(seed=i))
        write(tmp_path / "b" / f"{i}.jpg", picture(seed=i + 5))
    assert main(["a", "b", "--output", "out"]) == 0
    assert "3 of them pairs by name" in capsys.readouterr().out
    found = json.loads((tmp_path / "out/metrics.json").read_text())
    assert found["figures"]["fake_B/l1"]["value"] > 0.1
    write(tmp_path / "b" / "2.jpg", picture(32, 64))
    with pytest.raises(UsageError, match="is 64x64 of 3 channels and its partner b/2.jpg is 32x64"):
        main(["a", "b"])
    with pytest.raises(UsageError, match="nothing to say of 3 images against 1, 0 of them pairs by name"):
        main(["a", str(Path(write(tmp_path / "c" / "9.png", picture())).parent), "--metrics", "psnr,ssim"])
    np.save(tmp_path / "c" / "9.npy", np.full((8, 8), np.nan, np.float32))
    with pytest.raises(UsageError, match="9.npy and c/9.png have the same stem|9.png and c/9.npy have the same stem"):
        main(["a", "c"])
    (tmp_path / "c" / "9.png").unlink()
    with pytest.raises(UsageError, match="c/9.npy: has pixels without a value"):
        main(["c", "c", "--range", "0:1"])


def test_the_figures_do_not_depend_on_what_files_are_called(tmp_path, capsys):
    from util.metrics.__main__ import main

    told = []
    for folder, names in (("first", "012"), ("last", "210")):
        for kind, seed in (("outputs", 0), ("truths", 5)):
            for name, channels in zip(names, (1, 3, 3), strict=True):
                write(tmp_path / folder / kind / f"{name}.png", picture(seed=seed + channels, channels=channels))
        main([f"{folder}/outputs", f"{folder}/truths", "--metrics", "l1"])
        told.append(capsys.readouterr().out.splitlines()[-1])
    assert told[0] == told[1]


def test_folders_of_grey_colour_and_transparent_images(tmp_path, capsys):
    from util.metrics.__main__ import main

    write(tmp_path / "a" / "0.png", picture(channels=1))
    write(tmp_path / "a" / "1.png", picture(channels=4))
    for i in range(2):
        write(tmp_path / "b" / f"{i}.png", picture(seed=i))
    assert main(["a", "b", "--metrics", "psnr,swd"]) == 0
    assert "n = 2" in capsys.readouterr().out
    assert main(["b", "b", "--metrics", "psnr,swd"]) == 0
    assert "psnr: 100 [100, 100], n = 2" in capsys.readouterr().out


def test_where_no_metric_is_left_nothing_else_is_blamed(tmp_path, monkeypatch, capsys):
    def no_network():
        raise OSError("no network")

    monkeypatch.setitem(pretrained.NETWORKS, "inception", pretrained.Pretrained("w.pth", "torch", no_network))
    for folder in ("made", "true"):
        write(tmp_path / folder / "x.png", picture())
    from util.metrics.__main__ import main

    with pytest.raises(UsageError, match="--metrics fid: none is left"):
        main(["made", "true", "--metrics", "fid"])
    assert "fid: left out, " in capsys.readouterr().err
    assert main(["made", "true", "--metrics", "l1,fid"]) == 1
    assert main(["made", "true", "--metrics", "l1"]) == 0
