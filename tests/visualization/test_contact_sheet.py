from neuface_ray.visualization.contact_sheet import contact_sheet
from neuface_ray.visualization.overlay import AnnotatedFrame, Caption


def test_contact_sheet(scene):
    frames, region, style = scene
    bands = [
        (Caption("clip", "", "rejected: nme", False), frames, region),
        (Caption("still"), frames[:1], region),
    ]
    sheet = contact_sheet(bands, style, (64, 80), gap=2)
    assert sheet.shape == (2 * 36 + 4 * 82 + 2, 3 * 66 + 2, 3)
    assert sheet[200:276].mean() > sheet[36:112].mean() + 20
    empty = contact_sheet([(Caption("none"), [AnnotatedFrame(frames[0].image)], region)], style, (64, 80))
    assert (empty[36:116, 4:68] == empty[36:116, 72:136]).all()
