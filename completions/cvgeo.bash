# Completion for cvgeo, generated from the program by: python -m cvgeo.cli._generate

_cvgeo_datasets() {
    local folder
    for folder in "${CVGEO_DATA:-${XDG_DATA_HOME:-$HOME/.local/share}/cvgeo}"/*/; do
        folder="${folder%/}" folder="${folder##*/}"
        [[ "$folder" == "*" || "$folder" != "$current"* ]] || printf '%s\n' "$folder"
    done
}

_cvgeo_offered() {
    if [ "$1" = datasets ]; then
        _cvgeo_datasets
    else
        compgen -W "$1" -- "$current"
    fi
    case "$2" in
        file) compgen -f -- "$current" ;;
        folder) compgen -d -- "$current" ;;
        store) compgen -f -X '!*.h5' -- "$current"; compgen -d -- "$current" ;;
    esac
}

_cvgeo_offer() {
    # A data set and a folder may have the same name.
    mapfile -t COMPREPLY < <(_cvgeo_offered "$1" "$2" | sort -u)
    [ -n "$2" ] && compopt -o filenames 2>/dev/null
    [ "$2" = file ] || compopt +o default 2>/dev/null
}

_cvgeo_completion() {
    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD - 1]}"
    local command="" options="" commands="" choices="" names="" files="" index
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        case "$command/${COMP_WORDS[index]}" in
            "/polar") command="polar" ;;
            "/build-dataset") command="build-dataset" ;;
            "build-dataset/pairs") command="build-dataset pairs" ;;
            "build-dataset/tiles") command="build-dataset tiles" ;;
            "build-dataset/area") command="build-dataset area" ;;
            "build-dataset/world") command="build-dataset world" ;;
            "build-dataset/check") command="build-dataset check" ;;
            "/train") command="train" ;;
            "/embed") command="embed" ;;
            "/index") command="index" ;;
            "/search") command="search" ;;
            "/evaluate") command="evaluate" ;;
            "/ablate") command="ablate" ;;
            "/heatmap") command="heatmap" ;;
            "/models") command="models" ;;
            "/info") command="info" ;;
            "/config") command="config" ;;
            "/demo") command="demo" ;;
        esac
    done
    # Readline splits --option=value at the sign.
    [ "$current" = "=" ] && current=""
    [ "$previous" = "=" ] && previous="${COMP_WORDS[COMP_CWORD - 2]}"
    case "$command/$previous" in
        "/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "polar/-o"|"polar/--output") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "polar/--height") compopt +o default 2>/dev/null; return ;;
        "polar/--width") compopt +o default 2>/dev/null; return ;;
        "polar/--convention") choices="paper safa" ;;
        "polar/--heading") compopt +o default 2>/dev/null; return ;;
        "polar/-j"|"polar/--jobs") compopt +o default 2>/dev/null; return ;;
        "polar/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "build-dataset pairs/--aerial") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "build-dataset pairs/-o"|"build-dataset pairs/--output") names="" files="folder"; _cvgeo_offer "$names" "$files"; return ;;
        "build-dataset pairs/--positions") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "build-dataset pairs/--tile-metres") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--tile-size") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--gsd") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--step") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--val-share") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--test-share") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--apart") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--declination") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--heading") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--hfov") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--projection") choices="equirectangular cylindrical perspective cube" ;;
        "build-dataset pairs/--pitch") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--roll") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--min-valid") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--zoom") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--rate") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--name") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--attribution") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--seed") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/-j"|"build-dataset pairs/--jobs") compopt +o default 2>/dev/null; return ;;
        "build-dataset pairs/--format") choices="table jsonl csv geojson" ;;
        "build-dataset pairs/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "build-dataset tiles/--aerial") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "build-dataset tiles/-o"|"build-dataset tiles/--output") names="" files="folder"; _cvgeo_offer "$names" "$files"; return ;;
        "build-dataset tiles/--tile-metres") compopt +o default 2>/dev/null; return ;;
        "build-dataset tiles/--tile-size") compopt +o default 2>/dev/null; return ;;
        "build-dataset tiles/--gsd") compopt +o default 2>/dev/null; return ;;
        "build-dataset tiles/--overlap") compopt +o default 2>/dev/null; return ;;
        "build-dataset tiles/--split") compopt +o default 2>/dev/null; return ;;
        "build-dataset tiles/--min-valid") compopt +o default 2>/dev/null; return ;;
        "build-dataset tiles/--zoom") compopt +o default 2>/dev/null; return ;;
        "build-dataset tiles/--rate") compopt +o default 2>/dev/null; return ;;
        "build-dataset tiles/--bbox") compopt +o default 2>/dev/null; return ;;
        "build-dataset tiles/--name") compopt +o default 2>/dev/null; return ;;
        "build-dataset tiles/--attribution") compopt +o default 2>/dev/null; return ;;
        "build-dataset tiles/-j"|"build-dataset tiles/--jobs") compopt +o default 2>/dev/null; return ;;
        "build-dataset tiles/--format") choices="table jsonl csv geojson" ;;
        "build-dataset tiles/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "build-dataset area/--aerial") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "build-dataset area/-o"|"build-dataset area/--output") names="" files="folder"; _cvgeo_offer "$names" "$files"; return ;;
        "build-dataset area/--tile-metres") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--tile-size") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--gsd") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--panoramas") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--spacing") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--views") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--panorama-width") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--val-share") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--apart") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--min-valid") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--zoom") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--rate") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--bbox") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--name") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--attribution") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--seed") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/-j"|"build-dataset area/--jobs") compopt +o default 2>/dev/null; return ;;
        "build-dataset area/--format") choices="table jsonl csv geojson" ;;
        "build-dataset area/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "build-dataset world/-o"|"build-dataset world/--output") names="" files="folder"; _cvgeo_offer "$names" "$files"; return ;;
        "build-dataset world/--size-km") compopt +o default 2>/dev/null; return ;;
        "build-dataset world/--preset") choices="aligned offcentre limited terrain" ;;
        "build-dataset world/--panoramas") compopt +o default 2>/dev/null; return ;;
        "build-dataset world/--texture") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "build-dataset world/--set") compopt +o default 2>/dev/null; return ;;
        "build-dataset world/--seed") compopt +o default 2>/dev/null; return ;;
        "build-dataset world/-j"|"build-dataset world/--jobs") compopt +o default 2>/dev/null; return ;;
        "build-dataset world/--format") choices="table jsonl csv geojson" ;;
        "build-dataset world/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "build-dataset check/--seed") compopt +o default 2>/dev/null; return ;;
        "build-dataset check/-j"|"build-dataset check/--jobs") compopt +o default 2>/dev/null; return ;;
        "build-dataset check/--format") choices="table jsonl csv geojson" ;;
        "build-dataset check/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "train/-d"|"train/--dataset") names="datasets" files="folder"; _cvgeo_offer "$names" "$files"; return ;;
        "train/--area") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "train/--model") names="any_view cai cbam cvft cvm_net dsm geodtr liu_li maxpool mc_gra mc_gra_ordinary mc_gra_plain mc_gra_small safa safa_mining sample4geo siamese_vgg ssa_net synthetic tiny vigor workman zero_shot" files=""; _cvgeo_offer "$names" "$files"; return ;;
        "train/--recipe") names="any-view cai demo dsm geodtr paper paper-small safa safa_mining sample4geo strong synthetic vigor" files=""; _cvgeo_offer "$names" "$files"; return ;;
        "train/--weights") names="imagenet lite none" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "train/--set") compopt +o default 2>/dev/null; return ;;
        "train/-o"|"train/--output") names="" files="folder"; _cvgeo_offer "$names" "$files"; return ;;
        "train/--epochs") compopt +o default 2>/dev/null; return ;;
        "train/--batch-size") compopt +o default 2>/dev/null; return ;;
        "train/--seed") compopt +o default 2>/dev/null; return ;;
        "train/--device") names="auto cpu cuda" files=""; _cvgeo_offer "$names" "$files"; return ;;
        "train/-j"|"train/--jobs") compopt +o default 2>/dev/null; return ;;
        "train/--threads") compopt +o default 2>/dev/null; return ;;
        "train/--memory") compopt +o default 2>/dev/null; return ;;
        "train/--pack-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "train/--save-every") compopt +o default 2>/dev/null; return ;;
        "train/--format") choices="table jsonl csv geojson" ;;
        "train/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "embed/--model") names="any_view cai cbam cvft cvm_net dsm geodtr liu_li maxpool mc_gra mc_gra_ordinary mc_gra_plain mc_gra_small safa safa_mining sample4geo siamese_vgg ssa_net synthetic tiny vigor workman zero_shot" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "embed/-o"|"embed/--output") names="" files="store"; _cvgeo_offer "$names" "$files"; return ;;
        "embed/-d"|"embed/--dataset") names="datasets" files="folder"; _cvgeo_offer "$names" "$files"; return ;;
        "embed/--split") compopt +o default 2>/dev/null; return ;;
        "embed/--view") choices="aerial ground" ;;
        "embed/--weights") names="imagenet lite none" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "embed/--azimuth") names="any_view cai cbam cvft cvm_net dsm geodtr liu_li maxpool mc_gra mc_gra_ordinary mc_gra_plain mc_gra_small safa safa_mining sample4geo siamese_vgg ssa_net synthetic tiny vigor workman zero_shot" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "embed/--heading") compopt +o default 2>/dev/null; return ;;
        "embed/--hfov") compopt +o default 2>/dev/null; return ;;
        "embed/--projection") choices="equirectangular cylindrical perspective cube" ;;
        "embed/--pitch") compopt +o default 2>/dev/null; return ;;
        "embed/--roll") compopt +o default 2>/dev/null; return ;;
        "embed/--declination") compopt +o default 2>/dev/null; return ;;
        "embed/--batch-size") compopt +o default 2>/dev/null; return ;;
        "embed/--part-rows") compopt +o default 2>/dev/null; return ;;
        "embed/--shard") compopt +o default 2>/dev/null; return ;;
        "embed/--storage") choices="half int8" ;;
        "embed/--device") names="auto cpu cuda" files=""; _cvgeo_offer "$names" "$files"; return ;;
        "embed/-j"|"embed/--jobs") compopt +o default 2>/dev/null; return ;;
        "embed/--threads") compopt +o default 2>/dev/null; return ;;
        "embed/--memory") compopt +o default 2>/dev/null; return ;;
        "embed/--format") choices="table jsonl csv geojson" ;;
        "embed/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "index/--kind") choices="faiss milvus" ;;
        "index/--structure") choices="auto hnsw ivfpq" ;;
        "index/--pca") compopt +o default 2>/dev/null; return ;;
        "index/--milvus") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "index/--collection") compopt +o default 2>/dev/null; return ;;
        "index/--format") choices="table jsonl csv geojson" ;;
        "index/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "search/--store") names="" files="store"; _cvgeo_offer "$names" "$files"; return ;;
        "search/--model") names="any_view cai cbam cvft cvm_net dsm geodtr liu_li maxpool mc_gra mc_gra_ordinary mc_gra_plain mc_gra_small safa safa_mining sample4geo siamese_vgg ssa_net synthetic tiny vigor workman zero_shot" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "search/--weights") names="imagenet lite none" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "search/-k") compopt +o default 2>/dev/null; return ;;
        "search/--heading") compopt +o default 2>/dev/null; return ;;
        "search/--hfov") compopt +o default 2>/dev/null; return ;;
        "search/--projection") choices="equirectangular cylindrical perspective cube" ;;
        "search/--pitch") compopt +o default 2>/dev/null; return ;;
        "search/--roll") compopt +o default 2>/dev/null; return ;;
        "search/--declination") compopt +o default 2>/dev/null; return ;;
        "search/--headings") compopt +o default 2>/dev/null; return ;;
        "search/--azimuth") names="any_view cai cbam cvft cvm_net dsm geodtr liu_li maxpool mc_gra mc_gra_ordinary mc_gra_plain mc_gra_small safa safa_mining sample4geo siamese_vgg ssa_net synthetic tiny vigor workman zero_shot" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "search/--near") compopt +o default 2>/dev/null; return ;;
        "search/--polygon") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "search/--min-probability") compopt +o default 2>/dev/null; return ;;
        "search/--refine") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "search/--refine-candidates") compopt +o default 2>/dev/null; return ;;
        "search/--sheet") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "search/--map") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "search/--ortho") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "search/--index") choices="auto exact faiss milvus" ;;
        "search/--milvus") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "search/--device") names="auto cpu cuda" files=""; _cvgeo_offer "$names" "$files"; return ;;
        "search/--threads") compopt +o default 2>/dev/null; return ;;
        "search/--memory") compopt +o default 2>/dev/null; return ;;
        "search/--format") choices="table jsonl csv geojson" ;;
        "search/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "evaluate/-d"|"evaluate/--dataset") names="datasets" files="folder"; _cvgeo_offer "$names" "$files"; return ;;
        "evaluate/--model") names="any_view cai cbam cvft cvm_net dsm geodtr liu_li maxpool mc_gra mc_gra_ordinary mc_gra_plain mc_gra_small safa safa_mining sample4geo siamese_vgg ssa_net synthetic tiny vigor workman zero_shot" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "evaluate/--weights") names="imagenet lite none" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "evaluate/--split") compopt +o default 2>/dev/null; return ;;
        "evaluate/--store") names="" files="store"; _cvgeo_offer "$names" "$files"; return ;;
        "evaluate/--query-store") names="" files="store"; _cvgeo_offer "$names" "$files"; return ;;
        "evaluate/--heading") choices="known unknown" ;;
        "evaluate/--headings") compopt +o default 2>/dev/null; return ;;
        "evaluate/--hfov") compopt +o default 2>/dev/null; return ;;
        "evaluate/--reliability") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "evaluate/--azimuth") names="any_view cai cbam cvft cvm_net dsm geodtr liu_li maxpool mc_gra mc_gra_ordinary mc_gra_plain mc_gra_small safa safa_mining sample4geo siamese_vgg ssa_net synthetic tiny vigor workman zero_shot" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "evaluate/--seed") compopt +o default 2>/dev/null; return ;;
        "evaluate/--per-query") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "evaluate/--distractors") names="datasets" files="folder"; _cvgeo_offer "$names" "$files"; return ;;
        "evaluate/--against") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "evaluate/--batch-size") compopt +o default 2>/dev/null; return ;;
        "evaluate/--device") names="auto cpu cuda" files=""; _cvgeo_offer "$names" "$files"; return ;;
        "evaluate/-j"|"evaluate/--jobs") compopt +o default 2>/dev/null; return ;;
        "evaluate/--threads") compopt +o default 2>/dev/null; return ;;
        "evaluate/--memory") compopt +o default 2>/dev/null; return ;;
        "evaluate/--format") choices="table jsonl csv geojson" ;;
        "evaluate/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "ablate/-d"|"ablate/--dataset") names="datasets" files="folder"; _cvgeo_offer "$names" "$files"; return ;;
        "ablate/-o"|"ablate/--output") names="" files="folder"; _cvgeo_offer "$names" "$files"; return ;;
        "ablate/--table") names="1 2 3 4 5 small" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "ablate/--vary") compopt +o default 2>/dev/null; return ;;
        "ablate/--reference") compopt +o default 2>/dev/null; return ;;
        "ablate/--model") names="any_view cai cbam cvft cvm_net dsm geodtr liu_li maxpool mc_gra mc_gra_ordinary mc_gra_plain mc_gra_small safa safa_mining sample4geo siamese_vgg ssa_net synthetic tiny vigor workman zero_shot" files=""; _cvgeo_offer "$names" "$files"; return ;;
        "ablate/--recipe") names="any-view cai demo dsm geodtr paper paper-small safa safa_mining sample4geo strong synthetic vigor" files=""; _cvgeo_offer "$names" "$files"; return ;;
        "ablate/--weights") names="imagenet lite none" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "ablate/--set") compopt +o default 2>/dev/null; return ;;
        "ablate/--epochs") compopt +o default 2>/dev/null; return ;;
        "ablate/--batch-size") compopt +o default 2>/dev/null; return ;;
        "ablate/--seeds") compopt +o default 2>/dev/null; return ;;
        "ablate/--split") compopt +o default 2>/dev/null; return ;;
        "ablate/--device") names="auto cpu cuda" files=""; _cvgeo_offer "$names" "$files"; return ;;
        "ablate/--workers") compopt +o default 2>/dev/null; return ;;
        "ablate/-j"|"ablate/--jobs") compopt +o default 2>/dev/null; return ;;
        "ablate/--threads") compopt +o default 2>/dev/null; return ;;
        "ablate/--memory") compopt +o default 2>/dev/null; return ;;
        "ablate/--format") choices="table jsonl csv geojson" ;;
        "ablate/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "heatmap/--model") names="any_view cai cbam cvft cvm_net dsm geodtr liu_li maxpool mc_gra mc_gra_ordinary mc_gra_plain mc_gra_small safa safa_mining sample4geo siamese_vgg ssa_net synthetic tiny vigor workman zero_shot" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "heatmap/-d"|"heatmap/--dataset") names="datasets" files="folder"; _cvgeo_offer "$names" "$files"; return ;;
        "heatmap/--store") names="" files="store"; _cvgeo_offer "$names" "$files"; return ;;
        "heatmap/--tile") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "heatmap/--kind") choices="gradcam attention points relation" ;;
        "heatmap/--at") compopt +o default 2>/dev/null; return ;;
        "heatmap/-o"|"heatmap/--output") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "heatmap/--geotiff") names="" files="folder"; _cvgeo_offer "$names" "$files"; return ;;
        "heatmap/--weights") names="imagenet lite none" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "heatmap/--heading") compopt +o default 2>/dev/null; return ;;
        "heatmap/--hfov") compopt +o default 2>/dev/null; return ;;
        "heatmap/--projection") choices="equirectangular cylindrical perspective cube" ;;
        "heatmap/--pitch") compopt +o default 2>/dev/null; return ;;
        "heatmap/--roll") compopt +o default 2>/dev/null; return ;;
        "heatmap/--declination") compopt +o default 2>/dev/null; return ;;
        "heatmap/--device") names="auto cpu cuda" files=""; _cvgeo_offer "$names" "$files"; return ;;
        "heatmap/--format") choices="table jsonl csv geojson" ;;
        "heatmap/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "models/--format") choices="table jsonl csv geojson" ;;
        "models/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "info/--sheet") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "info/--samples") compopt +o default 2>/dev/null; return ;;
        "info/--format") choices="table jsonl csv geojson" ;;
        "info/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "config/--format") choices="table jsonl csv geojson" ;;
        "config/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
        "demo/--panoramas") compopt +o default 2>/dev/null; return ;;
        "demo/--size-km") compopt +o default 2>/dev/null; return ;;
        "demo/--epochs") compopt +o default 2>/dev/null; return ;;
        "demo/--seed") compopt +o default 2>/dev/null; return ;;
        "demo/--device") names="auto cpu cuda" files=""; _cvgeo_offer "$names" "$files"; return ;;
        "demo/--format") choices="table jsonl csv geojson" ;;
        "demo/--log-file") names="" files="file"; _cvgeo_offer "$names" "$files"; return ;;
    esac
    case "$command" in
        "") options="--version -q --quiet --debug --log-file -h --help" commands="polar build-dataset train embed index search evaluate ablate heatmap models info config demo" ;;
        "polar") options="-o --output --height --width --convention --heading -0 --null --overwrite -j --jobs --json -q --quiet --debug --log-file -h --help" commands="" names="" files="file" ;;
        "build-dataset") options="-h --help" commands="pairs tiles area world check" ;;
        "build-dataset pairs") options="--aerial -o --output --positions --tile-metres --tile-size --gsd --offcentre --step --val-share --test-share --apart --random-split --declination --heading --hfov --projection --pitch --roll --min-valid --link --zoom --tms --rate --name --attribution --seed -0 --null --overwrite -j --jobs --format --json -q --quiet --debug --log-file -h --help" commands="" names="" files="file" ;;
        "build-dataset tiles") options="--aerial -o --output --tile-metres --tile-size --gsd --overlap --split --min-valid --zoom --tms --rate --bbox --name --attribution --overwrite -j --jobs --format --json -q --quiet --debug --log-file -h --help" commands="" ;;
        "build-dataset area") options="--aerial -o --output --tile-metres --tile-size --gsd --panoramas --spacing --views --panorama-width --val-share --apart --min-valid --zoom --tms --rate --bbox --name --attribution --seed --overwrite -j --jobs --format --json -q --quiet --debug --log-file -h --help" commands="" ;;
        "build-dataset world") options="-o --output --size-km --preset --panoramas --texture --set --seed --overwrite -j --jobs --format --json -q --quiet --debug --log-file -h --help" commands="" ;;
        "build-dataset check") options="--quick --labels-only --all --seed -j --jobs --format --json -q --quiet --debug --log-file -h --help" commands="" names="datasets" files="folder" ;;
        "train") options="-d --dataset --area --model --recipe --weights --set -o --output --epochs --batch-size --seed --device -j --jobs --threads --memory --pack --pack-file --save-every --deterministic --overwrite --skip-missing --format --json -q --quiet --debug --log-file -h --help" commands="" ;;
        "embed") options="--model -o --output -d --dataset --split --view --weights --azimuth --heading --hfov --projection --pitch --roll --declination --batch-size --part-rows --join --prune --shard --storage --allow-mismatch --device -j --jobs --threads --memory --overwrite --skip-missing -0 --null --format --json -q --quiet --debug --log-file -h --help" commands="" names="" files="file" ;;
        "index") options="--kind --structure --pca --milvus --collection --check --overwrite --format --json -q --quiet --debug --log-file -h --help" commands="" names="" files="store" ;;
        "search") options="--store --model --weights -k --heading --hfov --projection --pitch --roll --declination --headings --azimuth --near --polygon --same-place --min-probability --refine --refine-candidates --sheet --map --ortho --index --milvus --allow-mismatch --device --threads --memory -0 --null --format --json -q --quiet --debug --log-file -h --help" commands="" names="" files="file" ;;
        "evaluate") options="-d --dataset --model --weights --split --store --query-store --within-source --heading --headings --hfov --calibrate --reliability --calibrate-heading --azimuth --seed --per-query --distractors --both-ways --against --batch-size --skip-missing --allow-mismatch --device -j --jobs --threads --memory --format --json -q --quiet --debug --log-file -h --help" commands="" ;;
        "ablate") options="-d --dataset -o --output --table --vary --reference --model --recipe --weights --set --epochs --batch-size --seeds --split --heading-unknown --device --workers -j --jobs --threads --memory --skip-missing --overwrite --format --json -q --quiet --debug --log-file -h --help" commands="" ;;
        "heatmap") options="--model -d --dataset --store --tile --kind --at -o --output --geotiff --weights --heading --hfov --projection --pitch --roll --declination --device --overwrite -0 --null --format --json -q --quiet --debug --log-file -h --help" commands="" names="" files="file" ;;
        "models") options="--parts --format --json -q --quiet --debug --log-file -h --help" commands="" names="any_view cai cbam cvft cvm_net dsm geodtr liu_li maxpool mc_gra mc_gra_ordinary mc_gra_plain mc_gra_small safa safa_mining sample4geo siamese_vgg ssa_net synthetic tiny vigor workman zero_shot" files="" ;;
        "info") options="--verify --sheet --samples -0 --null --format --json -q --quiet --debug --log-file -h --help" commands="" names="datasets" files="file" ;;
        "config") options="--changed --format --json -q --quiet --debug --log-file -h --help" commands="" names="polar build-dataset pairs tiles area world check train embed index search evaluate ablate heatmap models info config demo" files="" ;;
        "demo") options="--panoramas --size-km --epochs --seed --device --format --json -q --quiet --debug --log-file -h --help" commands="" names="" files="folder" ;;
    esac
    if [ -n "$choices" ]; then
        COMPREPLY=($(compgen -W "$choices" -- "$current"))
    elif [[ "$current" == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$current"))
    elif [ -n "$commands" ]; then
        COMPREPLY=($(compgen -W "$commands" -- "$current"))
    elif [ -n "$names$files" ]; then
        _cvgeo_offer "$names" "$files"
    fi
}

complete -o default -F _cvgeo_completion cvgeo
